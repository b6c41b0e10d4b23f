// The map view: a category's embeddings in two dimensions, on a canvas: moved, zoomed, filtered, and chosen from by drawing.

import { askJson, showThumbnail } from "./api.js";
import { asking, at, fill, make, placeOf } from "./page.js";
import { queryLike } from "./query.js";
import { reviewOnly } from "./review.js";
import { tile } from "./tile.js";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#7b5bd6"];
const SHAPES = ["circle", "rect", "diamond", "triangle"];
const [SHOWN, NAMED] = [60, 300]; // tiles of what was chosen, labels of the legend
const NEAR = 12; // pixels from a point that still mean it
const LARGEST = 200; // times the whole map
const LARGE = 6; // half a mark, of few images
const status = at("#map-status");
const canvas = at("#map-canvas");
const projecting = asking(status);
let points = []; // each with its place, the number of its label (-1: none), and whether the legend shows it
let inOrder = []; // the same by label: a canvas changes its colour seldom then
let names = [];
let hidden = new Set(); // numbers of labels
let view = { x: 0, y: 0, scale: 1 }; // what of the unit square is at the left and the top, and how large
let chosen = [];
let drawing = null; // the corners of what is being drawn, in pixels
let pointing = null; // the point under the pointer

export function offer(facts) {
  fill(at("#map-category"), facts.categories.map((one) => one.category));
  fill(at("#map-backbone"), facts.backbones.map((one) => one.name));
}

export const show = () =>
  projecting(async (isLatest) => {
    const parameters = {
      category: at("#map-category").value,
      backbone: at("#map-backbone").value,
      method: at("#map-method").value,
    };
    if (!parameters.category) return;
    status.textContent = "Projecting ...";
    const map = await askJson("/v1/map", { parameters });
    if (!isLatest()) return;
    if (map.methods.length > at("#map-method").options.length) fill(at("#map-method"), map.methods);
    names = [...new Set(map.points.filter((one) => one.role === "support").map((one) => one.label))].sort();
    const numberOf = new Map(names.map((name, number) => [name, number]));
    points = map.points.map((point) => ({ ...point, number: numberOf.get(point.label) ?? -1 }));
    inOrder = [...points].sort((one, other) => one.number - other.number);
    [hidden, pointing] = [new Set(), null];
    legend();
    choose([]);
    whole();
    const shown = map.total > map.points.length ? `${map.points.length} of ${map.total}` : `${map.total}`;
    status.textContent = `${shown} images; ${map.explained === null ? "" : `the plane holds ${(100 * map.explained).toFixed(0)} % of their variance. `}Click one to query with it.`;
  });

// What is where. The unit square fills the smaller side of the canvas, with some room around it.

const ROOM = 20;
const side = () => Math.max(1, Math.min(canvas.clientWidth, canvas.clientHeight) - 2 * ROOM);

/** A function that tells the pixels of points: what the canvas measures is asked once, and not for each of a hundred thousand. */
function placing() {
  const [left, top, large] = [(canvas.clientWidth - side()) / 2, (canvas.clientHeight - side()) / 2, view.scale * side()];
  return (point) => [left + (point.x - view.x) * large, top + (1 - point.y - view.y) * large];
}

function whole() {
  view = { x: 0, y: 0, scale: 1 };
  draw();
}

/** Zoom so that what is under a pixel stays there. */
function zoom(factor, [x, y] = [canvas.clientWidth / 2, canvas.clientHeight / 2]) {
  const scale = Math.min(LARGEST, Math.max(0.5, view.scale * factor));
  const [across, down] = [(x - (canvas.clientWidth - side()) / 2) / side(), (y - (canvas.clientHeight - side()) / 2) / side()];
  view = { x: view.x + across / view.scale - across / scale, y: view.y + down / view.scale - down / scale, scale };
  draw();
}

function move(right, down) {
  view = { ...view, x: view.x - right / view.scale / side(), y: view.y - down / view.scale / side() };
  draw();
}

const visible = (point) => !hidden.has(point.number);

function nearest([x, y]) {
  const placed = placing();
  let [best, least] = [null, NEAR ** 2];
  for (const point of points) {
    if (!visible(point)) continue;
    const [across, down] = placed(point);
    const distance = (across - x) ** 2 + (down - y) ** 2;
    if (distance < least) [best, least] = [point, distance];
  }
  return best;
}

let asked = false;

/** Draw with the next frame, however often it is asked for until then. */
function draw() {
  if (asked) return;
  asked = true;
  requestAnimationFrame(() => {
    asked = false;
    paint();
  });
}

function paint() {
  const density = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  if (canvas.width !== Math.round(width * density)) canvas.width = Math.round(width * density);
  if (canvas.height !== Math.round(height * density)) canvas.height = Math.round(height * density);
  const pen = canvas.getContext("2d");
  pen.setTransform(density, 0, 0, density, 0, 0);
  pen.clearRect(0, 0, width, height);
  const size = points.length > 20_000 ? 1.5 : points.length > 3000 ? 3 : LARGE;
  const soft = getComputedStyle(at("#map-status")).color;
  const placed = placing();
  pen.lineWidth = 2;
  for (const point of inOrder) {
    if (!visible(point)) continue;
    const [x, y] = placed(point);
    if (x < -size || y < -size || x > width + size || y > height + size) continue;
    if (size === LARGE) mark(pen, point.number, x, y, size, point.role === "query", soft);
    else dot(pen, point, x, y, size, soft);
  }
  pen.globalAlpha = 1;
  const text = getComputedStyle(canvas).color;
  pen.strokeStyle = text;
  pen.lineWidth = 2;
  for (const point of chosen.slice(0, 5000)) {
    const [x, y] = placed(point);
    pen.strokeRect(x - size - 2, y - size - 2, 2 * size + 4, 2 * size + 4);
  }
  if (pointing) {
    const [x, y] = placed(pointing);
    pen.beginPath();
    pen.arc(x, y, size + 5, 0, 2 * Math.PI);
    pen.stroke();
  }
  if (drawing) {
    pen.setLineDash([5, 4]);
    pen.beginPath();
    drawing.forEach(([x, y], number) => (number ? pen.lineTo(x, y) : pen.moveTo(x, y)));
    pen.closePath();
    pen.stroke();
    pen.setLineDash([]);
  }
}

/** One of very many: a square of its colour, paler for a query. */
function dot(pen, point, x, y, size, soft) {
  pen.fillStyle = point.number < 0 ? soft : COLOURS[point.number % COLOURS.length];
  pen.globalAlpha = point.role === "query" ? 0.5 : 1;
  pen.fillRect(x - size, y - size, 2 * size, 2 * size);
}

/** Colour and shape together tell labels apart. */
function mark(pen, number, x, y, size, hollow, soft) {
  pen.beginPath();
  if (number < 0) {
    pen.moveTo(x - size, y - size), pen.lineTo(x + size, y + size), pen.moveTo(x + size, y - size), pen.lineTo(x - size, y + size);
    pen.strokeStyle = soft;
    return pen.stroke();
  }
  const shape = SHAPES[Math.floor(number / COLOURS.length) % SHAPES.length];
  if (shape === "circle") pen.arc(x, y, size, 0, 2 * Math.PI);
  else if (shape === "rect") pen.rect(x - size, y - size, 2 * size, 2 * size);
  else {
    const corners = shape === "diamond" ? [[0, -1], [1, 0], [0, 1], [-1, 0]] : [[0, -1], [1, 1], [-1, 1]];
    corners.forEach(([dx, dy], corner) => (corner ? pen.lineTo(x + dx * size, y + dy * size) : pen.moveTo(x + dx * size, y + dy * size)));
    pen.closePath();
  }
  pen.fillStyle = pen.strokeStyle = COLOURS[number % COLOURS.length];
  if (!hollow) pen.fill();
  pen.stroke();
}

// The legend, which hides and shows labels.

function legend() {
  const entry = (number, name) => {
    const button = make("button", { type: "button" }, swatch(number), name);
    button.setAttribute("aria-pressed", "true");
    button.addEventListener("click", () => {
      const shown = hidden.delete(number) || !hidden.add(number);
      button.setAttribute("aria-pressed", String(shown));
      draw();
    });
    return make("li", {}, button);
  };
  const rest = names.length > NAMED ? [make("li", { textContent: `and ${names.length - NAMED} labels more` })] : [];
  at("#legend").replaceChildren(...names.slice(0, NAMED).map((name, number) => entry(number, name)), ...rest, entry(-1, "Unknown, or not labelled"), make("li", { textContent: "hollow: queries" }));
}

function swatch(number) {
  const small = make("canvas", { width: 28, height: 28 });
  small.setAttribute("aria-hidden", "true");
  const pen = small.getContext("2d");
  pen.lineWidth = 3;
  mark(pen, number, 14, 14, 10, false, getComputedStyle(at("#map-status")).color);
  return small;
}

// Choosing by drawing around points.

/** Whether a pixel lies within corners: how often a line to the right crosses their sides. */
function within([x, y], corners) {
  let inside = false;
  corners.forEach(([ax, ay], corner) => {
    const [bx, by] = corners[(corner || corners.length) - 1];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  });
  return inside;
}

function choose(some) {
  chosen = some;
  at("#chosen").hidden = some.length === 0;
  const queries = some.filter((point) => point.role === "query" && point.label === null);
  at("#chosen-review").hidden = queries.length === 0;
  at("#chosen-review").textContent = `Review ${queries.length} without a label`;
  const rest = some.length > SHOWN ? `; ${SHOWN} are shown` : "";
  at("#chosen-said").textContent = some.length ? `${some.length} image${some.length === 1 ? " is" : "s are"} chosen${rest}.` : "";
  at("#chosen-images").replaceChildren(
    ...some.slice(0, SHOWN).map((point) => tile(point, [make("div", { textContent: `${placeOf(point)} (${point.role})` })], () => queryLike(point.id))),
  );
  draw();
}

at("#chosen-review").addEventListener("click", () => {
  const queries = chosen.filter((point) => point.role === "query" && point.label === null);
  reviewOnly(at("#map-category").value, queries.map((point) => point.id));
});
at("#chosen-none").addEventListener("click", () => choose([]));

// The pointer: dragging moves the map, or draws around points; a click asks.

const pixel = (event) => {
  const frame = canvas.getBoundingClientRect();
  return [event.clientX - frame.left, event.clientY - frame.top];
};
const fingers = new Map(); // by pointer: where it is
let [began, moved] = [null, false];

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0) return;
  canvas.setPointerCapture(event.pointerId);
  fingers.set(event.pointerId, pixel(event));
  [began, moved] = [pixel(event), false];
  if (fingers.size === 1 && (event.shiftKey || at("#map-draw").getAttribute("aria-pressed") === "true")) drawing = [pixel(event)];
  else drawing = null;
});
canvas.addEventListener("pointermove", (event) => {
  const here = pixel(event);
  const before = fingers.get(event.pointerId);
  if (!before) {
    const point = nearest(here);
    if (point !== pointing) {
      pointing = point;
      canvas.style.cursor = point ? "pointer" : "";
      if (point) preview(point);
      draw();
    }
    return;
  }
  if (began && Math.hypot(here[0] - began[0], here[1] - began[1]) > 4) moved = true;
  fingers.set(event.pointerId, here);
  if (drawing) {
    drawing.push(here);
    return draw();
  }
  if (fingers.size === 2) {
    const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
    const apart = ([x, y]) => Math.max(1, Math.hypot(x - other[0], y - other[1]));
    return zoom(apart(here) / apart(before), [(here[0] + other[0]) / 2, (here[1] + other[1]) / 2]);
  }
  if (moved) move(here[0] - before[0], here[1] - before[1]);
});
function lift(event) {
  const last = fingers.get(event.pointerId);
  fingers.delete(event.pointerId);
  if (!last || event.type === "pointercancel") return void (drawing = null), draw();
  const corners = drawing;
  drawing = null;
  if (moved && corners) {
    const placed = placing();
    return choose(points.filter((point) => visible(point) && within(placed(point), corners)));
  }
  draw();
  if (moved || fingers.size) return;
  const point = nearest(last);
  if (point) queryLike(point.id);
}
canvas.addEventListener("pointerup", lift);
canvas.addEventListener("pointercancel", lift);
canvas.addEventListener("wheel", (event) => {
  event.preventDefault();
  zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.002)), pixel(event));
}, { passive: false });

const STEP = 40;
const KEYS = {
  "+": () => zoom(1.4), "=": () => zoom(1.4), "-": () => zoom(1 / 1.4), 0: whole,
  ArrowLeft: () => move(STEP, 0), ArrowRight: () => move(-STEP, 0), ArrowUp: () => move(0, STEP), ArrowDown: () => move(0, -STEP),
  Enter: () => choose(inSight()),
};

function inSight() {
  const [placed, width, height] = [placing(), canvas.clientWidth, canvas.clientHeight];
  return points.filter((point) => {
    const [x, y] = placed(point);
    return visible(point) && x >= 0 && y >= 0 && x <= width && y <= height;
  });
}

canvas.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || !Object.hasOwn(KEYS, event.key)) return;
  event.preventDefault();
  KEYS[event.key]();
});

function preview(point) {
  const figure = at("#preview");
  figure.hidden = false;
  showThumbnail(at("img", figure), point.id, placeOf(point));
  at("figcaption", figure).textContent = `${placeOf(point) || "no label"} (${point.role})`;
}

const pressed = at("#map-draw");
pressed.addEventListener("click", () => pressed.setAttribute("aria-pressed", String(pressed.getAttribute("aria-pressed") !== "true")));
at("#map-in").addEventListener("click", () => zoom(1.6));
at("#map-out").addEventListener("click", () => zoom(1 / 1.6));
at("#map-whole").addEventListener("click", whole);
for (const id of ["#map-category", "#map-backbone", "#map-method"]) at(id).addEventListener("change", show);
new ResizeObserver(draw).observe(canvas);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => (legend(), draw()));

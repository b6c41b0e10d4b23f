// The map view: a category's embeddings in two dimensions.

import { askJson, showThumbnail } from "./api.js";
import { asking, at, fill, make, placeOf } from "./page.js";
import { element, queryLike } from "./query.js";

const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#7b5bd6"];
const SHAPES = ["circle", "rect", "diamond", "triangle"];
const status = at("#map-status");
const projecting = asking(status);

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
    const names = [...new Set(map.points.filter((one) => one.role === "support").map((one) => one.label))].sort();
    draw(map.points, names);
    at("#legend").replaceChildren(
      ...names.map((name, place) => make("li", {}, swatch(mark(place, 6, 6, 5)), name)),
      make("li", {}, swatch(cross(6, 6)), "Unknown, or not labelled"),
      make("li", { textContent: "hollow: queries" }),
    );
    const shown = map.total > map.points.length ? `${map.points.length} of ${map.total}` : `${map.total}`;
    status.textContent = `${shown} images; ${map.explained === null ? "" : `the plane holds ${(100 * map.explained).toFixed(0)} % of their variance. `}Click one to query with it.`;
  });

function draw(points, names) {
  const svg = element("svg", { viewBox: "0 0 800 600", role: "group", "aria-label": "Map of the category" });
  for (const point of points) {
    const [x, y] = [20 + 760 * point.x, 580 - 560 * point.y];
    const place = names.indexOf(point.label);
    const shape = place < 0 ? cross(x, y) : mark(place, x, y, 6, point.role === "query");
    const link = element("a", { href: "#query", tabindex: 0, "aria-label": `${placeOf(point) || "no label"}, image ${point.id}` });
    link.append(shape);
    link.addEventListener("click", (event) => (event.preventDefault(), queryLike(point.id)));
    for (const name of ["pointerenter", "focus"]) link.addEventListener(name, () => preview(point));
    svg.append(link);
  }
  at("#plot").replaceChildren(svg);
}

/** Colour and shape together tell labels apart. */
function mark(place, x, y, size, hollow = false) {
  const colour = COLOURS[place % COLOURS.length];
  const paint = { fill: hollow ? "transparent" : colour, stroke: colour, "stroke-width": 2 };
  const shape = SHAPES[Math.floor(place / COLOURS.length) % SHAPES.length];
  if (shape === "circle") return element("circle", { cx: x, cy: y, r: size, ...paint });
  if (shape === "rect") return element("rect", { x: x - size, y: y - size, width: 2 * size, height: 2 * size, ...paint });
  const corners = shape === "diamond" ? [[0, -1], [1, 0], [0, 1], [-1, 0]] : [[0, -1], [1, 1], [-1, 1]];
  return element("polygon", { points: corners.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" "), ...paint });
}

const cross = (x, y) => element("path", { d: `M${x - 5},${y - 5}l10,10m0,-10l-10,10`, stroke: "var(--soft)", "stroke-width": 2.5, fill: "none" });

function swatch(shape) {
  const svg = element("svg", { viewBox: "0 0 12 12", "aria-hidden": "true" });
  svg.append(shape);
  return svg;
}

function preview(point) {
  const figure = at("#preview");
  figure.hidden = false;
  showThumbnail(at("img", figure), point.id, placeOf(point));
  at("figcaption", figure).textContent = `${placeOf(point) || "no label"} (${point.role})`;
}

for (const id of ["#map-category", "#map-backbone", "#map-method"]) at(id).addEventListener("change", show);

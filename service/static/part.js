// The part of the image that is asked about: drawn with the pointer, typed, or chosen of those that are detected.

import { askJson } from "./api.js";
import { asking, at, make } from "./page.js";

const frame = at("#part");
const canvas = at(".canvas", frame);
const picture = at("img", frame);
const outline = at(".drawn", frame);
const typed = at("#part-box");
const looking = asking(at("#part-status"));
let file = null;
let box = null; // x, y, width and height in pixels of the upright picture; null is all of it
let changed = () => {};

export const part = () => (box === null ? "" : box.join(","));

export function onPart(action) {
  changed = action;
}

/** Show an image whose part may be asked about; another image than before is asked about as a whole. */
export function showWhole(shown) {
  if (shown === file) return;
  file = shown;
  set(null);
  if (picture.src) URL.revokeObjectURL(picture.src);
  picture.src = URL.createObjectURL(shown);
}

/** The image, or the pixels of its part as a file of their own: what is labelled is what was asked about. */
export async function partFile() {
  if (box === null) return file;
  const [x, y, width, height] = box;
  const drawn = Object.assign(document.createElement("canvas"), { width, height });
  drawn.getContext("2d").drawImage(picture, -x, -y);
  const blob = await new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
  return new File([blob], "part.png", { type: "image/png" });
}

function set(next) {
  box = next;
  typed.value = part();
  lay(outline, box);
  at("#part-whole").disabled = box === null;
  for (const each of canvas.querySelectorAll("button")) each.setAttribute("aria-pressed", String(each.dataset.box === part()));
  if (box === null) canvas.querySelectorAll("button").forEach((each) => each.remove());
}

function lay(element, rectangle) {
  element.hidden = rectangle === null;
  if (rectangle === null) return;
  const [x, y, width, height] = rectangle;
  const share = (length, whole) => `${(100 * length) / whole}%`;
  const { naturalWidth: across, naturalHeight: down } = picture;
  Object.assign(element.style, { left: share(x, across), top: share(y, down), width: share(width, across), height: share(height, down) });
}

/** Where a pointer is, in pixels of the picture, and within it. */
function pixel(event) {
  const shown = picture.getBoundingClientRect();
  const along = (offset, length, whole) => Math.round(Math.min(Math.max(offset / length, 0), 1) * whole);
  return [along(event.clientX - shown.left, shown.width, picture.naturalWidth), along(event.clientY - shown.top, shown.height, picture.naturalHeight)];
}

const between = ([left, top], [right, bottom]) => [Math.min(left, right), Math.min(top, bottom), Math.abs(right - left), Math.abs(bottom - top)];

canvas.addEventListener("pointerdown", (event) => {
  if (event.button !== 0 || event.target.closest("button")) return;
  event.preventDefault();
  const start = pixel(event);
  const move = (later) => lay(outline, between(start, pixel(later)));
  const stop = (later) => {
    canvas.removeEventListener("pointermove", move);
    canvas.removeEventListener("pointerup", stop);
    canvas.removeEventListener("pointercancel", stop);
    const drawn = between(start, pixel(later));
    if (later.type === "pointerup" && Math.min(drawn[2], drawn[3]) >= 4) choose(drawn);
    else lay(outline, box); // a click, or a touch that became something else
  };
  canvas.setPointerCapture(event.pointerId);
  canvas.addEventListener("pointermove", move);
  canvas.addEventListener("pointerup", stop);
  canvas.addEventListener("pointercancel", stop);
});

function choose(next) {
  set(next);
  changed();
}

typed.addEventListener("change", () => {
  const numbers = typed.value.split(",").map((each) => (each.trim() === "" ? NaN : Number(each)));
  const right = numbers.length === 4 && numbers.every(Number.isInteger) && Math.min(numbers[0], numbers[1]) >= 0 && Math.min(numbers[2], numbers[3]) > 0;
  at("#part-status").textContent = right || typed.value === "" ? "" : "A part is x,y,width,height, in whole pixels from the upper left corner.";
  if (right) choose(numbers);
  else if (typed.value === "") choose(null);
});
at("#part-whole").addEventListener("click", () => choose(null));
at("#part-detect").addEventListener("click", () =>
  looking(async (isLatest) => {
    at("#part-status").textContent = "Looking for objects ...";
    const body = new FormData();
    body.append("images", file, "image");
    const backbone = document.querySelector("#query-backbones input:checked")?.value;
    const parameters = { objects: true, top_k: 1, backbone, category: at("#query-category").value };
    const { answers } = await askJson("/v1/query", { method: "POST", body, parameters });
    if (!isLatest()) return;
    canvas.querySelectorAll("button").forEach((each) => each.remove());
    for (const { box: [left, top, right, bottom], label, verdict } of answers) {
      const own = [left, top, right - left, bottom - top];
      const button = make("button", { type: "button", onclick: () => choose(own) });
      button.dataset.box = own.join(",");
      button.setAttribute("aria-label", `Part ${own.join(",")}: ${label ?? verdict}`);
      button.setAttribute("aria-pressed", "false");
      button.append(make("span", { textContent: label ?? verdict }));
      lay(button, own);
      canvas.append(button);
    }
    at("#part-status").textContent = `${answers.length} detected: choose one.`;
  }),
);
picture.addEventListener("load", () => (frame.hidden = false));
picture.addEventListener("error", () => (frame.hidden = true)); // a format that browsers cannot show

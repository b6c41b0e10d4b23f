// The large view: one picture of a gallery as large as the window, its neighbours by the arrow keys.

import { imageFile } from "./api.js";
import { at } from "./page.js";

const dialog = at("#large");
const picture = at("#large-picture");
const NOTHING = "data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="; // one transparent pixel
let shown = null; // the item of the gallery that is shown

/** Show an item of a gallery: what is written under its picture is written beside it here. */
export function enlarge(item) {
  shown = item;
  if (!dialog.open) {
    dialog.showModal();
    at("#large-frame").focus();
  }
  show();
}

const step = (by) => {
  const items = [...shown.parentElement.querySelectorAll(":scope > [data-image]")];
  const next = items[items.indexOf(shown) + by];
  if (!next) return;
  shown = next;
  show();
};

async function show() {
  const item = shown;
  const small = at("img", item);
  at("#large-place").textContent = [...item.querySelectorAll(":scope > div:not(.buttons)")].map((line) => line.textContent).filter(Boolean).join(" · ");
  at("#large-before").disabled = !item.previousElementSibling;
  at("#large-after").disabled = !item.nextElementSibling;
  if (document.activeElement === document.body || document.activeElement.disabled) at("#large-frame").focus(); // keys go on
  actual(false);
  put(small.src.startsWith("blob:") ? NOTHING : small.src, small.alt); // until the picture itself has come
  const file = await imageFile(item.dataset.image).catch(() => null);
  if (item !== shown || !dialog.open || file === null) return;
  put(URL.createObjectURL(file), small.alt, true);
}

let held = ""; // the picture's own bytes

function put(url, alt, own = false) {
  const before = held;
  held = own ? url : "";
  Object.assign(picture, { src: url, alt });
  if (before) URL.revokeObjectURL(before);
}

/** In its own pixels, to be scrolled, or as large as the window. */
function actual(pixels) {
  at("#large-frame").classList.toggle("actual", pixels);
  at("#large-zoom").setAttribute("aria-pressed", String(pixels));
}

const zoom = () => actual(!at("#large-frame").classList.contains("actual"));

picture.addEventListener("click", zoom);
at("#large-zoom").addEventListener("click", zoom);
at("#large-before").addEventListener("click", () => step(-1));
at("#large-after").addEventListener("click", () => step(1));
at("#large-close").addEventListener("click", () => dialog.close());
at("#large-like").addEventListener("click", () => {
  dialog.close();
  at(".like", shown).click();
});
window.addEventListener("hashchange", () => dialog.close()); // another view, or what was chosen before
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close()); // beside it
dialog.addEventListener("close", () => {
  put(NOTHING, "");
  if (shown.isConnected) at(".enlarge", shown).focus();
});
dialog.addEventListener("keydown", (event) => {
  const does = { ArrowLeft: () => step(-1), ArrowRight: () => step(1), z: zoom }[event.key];
  if (!does || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  does();
});

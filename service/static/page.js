// What all views share: elements, choices, gallery items.

import { showThumbnail } from "./api.js";

export const at = (selector, inside = document) => inside.querySelector(selector);

export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function fill(select, names, first = null) {
  const before = select.value;
  select.replaceChildren(
    ...(first === null ? [] : [make("option", { value: "", textContent: first })]),
    ...names.map((name) => make("option", { value: name, textContent: name })),
  );
  if ([...select.options].some((option) => option.value === before)) select.value = before;
}

/** Run something that may fail, and say so where people look. */
export async function telling(status, action, matters = () => true) {
  try {
    await action();
  } catch (error) {
    if (matters()) status.textContent = error.message;
  }
}

/** Ask the same thing again and again: an action is told whether it is still the latest, and a late failure is not said. */
export function asking(status) {
  let newest = 0;
  return (action) => {
    const mine = (newest += 1);
    const isLatest = () => mine === newest;
    return telling(status, () => action(isLatest), isLatest);
  };
}

export const placeOf = (image) => [image.category, image.label, image.shot].filter(Boolean).join("/");

/** A thumbnail with lines under it, and a button to query with that image. */
export function tile(image, lines, onLike) {
  const picture = make("img");
  const like = make("button", { type: "button", textContent: "More like this", onclick: onLike });
  like.setAttribute("aria-label", `More like ${placeOf(image)}, image ${image.id}`);
  showThumbnail(picture, image.id, placeOf(image));
  return make("li", {}, picture, ...lines, make("div", {}, like));
}

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

/** Two buttons that say whether a hit is right; pressed again, a mark is taken back. */
function marking(image, say) {
  const button = (textContent, right) => {
    const made = make("button", { type: "button", textContent });
    made.setAttribute("aria-pressed", "false");
    made.setAttribute("aria-label", `${textContent}: ${placeOf(image)}, image ${image.id}`);
    made.onclick = async () => {
      const taken = made.getAttribute("aria-pressed") === "true";
      if (!(await say(taken ? { undo: true } : { right }))) return;
      for (const each of both) each.setAttribute("aria-pressed", String(each === made && !taken));
    };
    return made;
  };
  const both = [button("Right", true), button("Not this", false)];
  return both;
}

/** A thumbnail with lines under it, and buttons: to query with that image, and to say whether it is right. */
export function tile(image, lines, onLike, say = null) {
  const picture = make("img");
  const like = make("button", { type: "button", textContent: "More like this", onclick: onLike });
  like.setAttribute("aria-label", `More like ${placeOf(image)}, image ${image.id}`);
  showThumbnail(picture, image.id, placeOf(image));
  return make("li", {}, picture, ...lines, make("div", { className: "buttons" }, like, ...(say ? marking(image, say) : [])));
}

/** What is promised of the share of false results. */
export function stopped(stop) {
  if (!stop) return [];
  const marked = `${stop.marked_queries} marked quer${stop.marked_queries === 1 ? "y" : "ies"}`;
  if (!stop.promised) return [`Too few marks to promise anything: ${marked}, ${stop.needed} needed; nothing is left out.`];
  if (stop.least_score === null) return [`Even first results of ${marked} are false too often: none is shown.`];
  return [`At most ${100 * stop.false} % of the results false on average, by ${marked}.`];
}

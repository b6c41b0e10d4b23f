// What all views share: elements, choices, addresses.

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

/** The address of a view with what is chosen in it, so that it can be kept, sent, and come back to. */
export function addressOf(view, chosen) {
  const fields = Object.entries(chosen).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return `#${view}${fields.length ? `?${new URLSearchParams(fields)}` : ""}`;
}

/** Have the address say what is chosen; Back leads to what was chosen before. */
export function remember(view, chosen) {
  const address = addressOf(view, chosen);
  if (location.hash !== address && location.hash.startsWith(`#${view}`)) history.pushState(null, "", address);
}

/** Choose in some elements what an address says; what it does not say is as it was at first. Tells what there is none of. */
export function restore(chosen, elements) {
  const unknown = [];
  for (const [name, element] of Object.entries(elements)) {
    const first = element.tagName === "SELECT" ? (element.options[0]?.value ?? "") : "";
    element.value = chosen.get(name) ?? first;
    if (element.tagName !== "SELECT" || element.selectedIndex >= 0) continue;
    element.value = first;
    unknown.push(`${name} ${chosen.get(name)}`);
  }
  return unknown;
}

export const notHere = (unknown) => `There is no ${unknown.join(", and no ")} here: the address is of something else, or of what was there once.`;

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

/** What is promised of the share of false results. */
export function stopped(stop) {
  if (!stop) return [];
  const marked = `${stop.marked_queries} marked quer${stop.marked_queries === 1 ? "y" : "ies"}`;
  if (!stop.promised) return [`Too few marks to promise anything: ${marked}, ${stop.needed} needed; nothing is left out.`];
  if (stop.least_score === null) return [`Even first results of ${marked} are false too often: none is shown.`];
  return [`At most ${100 * stop.false} % of the results false on average, by ${marked}.`];
}

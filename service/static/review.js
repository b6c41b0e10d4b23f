// The review: queries that nobody has decided, one after the other, by keyboard. What is said is kept before the next is shown.

import { ask, askJson, form, imageFile, showThumbnail } from "./api.js";
import { asking, at, fill, make } from "./page.js";

const AHEAD = 20; // decisions after which what waits is weighed anew: by then the labels know more
const PAUSE = 30; // seconds that a decision counts for at most, where somebody went for a coffee
const DECIDED = "urn:nearshot:decided";
const status = at("#review-status");
const latest = asking(status);
const pictures = at("#review-pictures");
const tabs = new BroadcastChannel("nearshot-review"); // what one tab decides, others need not ask
let labels = new Map(); // by category, all of them
let keys = {}; // by category, the labels that have a key
let groups = []; // those that wait; the first one is shown
let waiting = 0; // images that wait
let skipped = new Set(JSON.parse(sessionStorage.getItem("skipped") ?? "[]"));
let decided = new Set(); // images that somebody decided, here or in another tab, since the page was opened
let said = []; // what can be undone, the last one last
let chosen = ""; // the label that Enter gives
let selected = new Set();
let anchor = 0;
let busy = false;
let coming = false; // a queue that was asked for anew
let seen = false; // the picture can be seen, or never will be
let spent = 0;
let shownAt = 0;

export function offer(facts) {
  const queried = facts.categories.filter((one) => one.labels.length);
  fill(at("#review-category"), queried.map((one) => one.category));
  labels = new Map(queried.map((one) => [one.category, one.labels.map((label) => label.label)]));
}

let only = null; // the ids of what was chosen elsewhere: nothing else is asked

/** Review these alone, until the category is chosen anew. */
export function reviewOnly(category, ids) {
  only = new Set(ids);
  at("#review-category").value = category;
  at("#review-every").checked = true; // what was chosen is wanted, doubtful or not
  location.hash = "#review";
}

export const show = () =>
  latest(async (isLatest) => {
    at("#review-frame").hidden = coming = true; // what is pressed before the queue has come would be said of another picture
    try {
      if (!(await fetchQueue(isLatest))) return;
    } finally {
      if (isLatest()) coming = false;
    }
    showFirst();
  });

/** Ask what waits. What was skipped comes last; what was decided meanwhile does not come, and what is shown can be kept. */
async function fetchQueue(isLatest, keepFirst = false) {
  const category = at("#review-category").value;
  if (!category) {
    status.textContent = "There are no shots yet to compare with.";
    return false;
  }
  if (!keepFirst) status.textContent = "Looking for what is doubtful ...";
  const parameters = { category, every: at("#review-every").checked, limit: only === null ? Math.min(1000, 100 + skipped.size) : 1000 };
  const given = await askJson("/v1/review", { parameters });
  if (!isLatest()) return false;
  keys = given.keys;
  const keep = keepFirst ? groups.slice(0, 1) : []; // the one that is shown now, and not when it was asked
  const kept = new Set(keep.flatMap((group) => group.ids));
  const open = given.groups
    .map((group) => ({ ...group, ids: group.ids.filter((id) => !decided.has(id) && !kept.has(id) && (only === null || only.has(id))) }))
    .filter((group) => group.ids.length);
  const isSkipped = (group) => group.ids.every((id) => skipped.has(id));
  groups = [...keep, ...open.filter((group) => !isSkipped(group)), ...open.filter(isSkipped)];
  if (only !== null) {
    waiting = groups.reduce((sum, group) => sum + group.ids.length, 0);
    return true;
  }
  waiting = given.images - given.groups.flatMap((group) => group.ids).filter((id) => decided.has(id)).length;
  return true;
}

function showFirst() {
  if (coming) return; // what is shown then comes with the queue
  const group = groups[0];
  at("#review-frame").hidden = !group;
  tellProgress();
  if (!group) {
    status.textContent = only !== null ? "Nothing of what was chosen is left to decide. Choose the category anew for the rest." : here().length ? "Done: nothing is left to decide." : "Nothing is left to decide: every query is known, or clear.";
    return;
  }
  status.textContent = "";
  shownAt = performance.now();
  chosen = group.guesses[0]?.label ?? "";
  selected = new Set(group.ids);
  anchor = 0;
  pictures.replaceChildren(...group.ids.map((id, index) => option(group, id, index)));
  pictures.hidden = group.ids.length < 2;
  const scores = group.guesses.map((guess) => `${guess.label} ${guess.score.toFixed(3)}`).join(", ");
  const many = group.ids.length > 1 ? ` ${group.ids.length} pictures that are nearly the same; all are selected.` : "";
  at("#review-why").textContent = `${{ unknown: "Unknown", ambiguous: "Ambiguous", match: "A match" }[group.verdict]}: nearest ${scores}.${many}`;
  showLarge(group.ids[0]);
  showLabels(group);
  if (groups[1]) preload(groups[1].ids[0]);
}

/** A picture's own bytes; they are fetched once, and one ahead. */
const originals = new Map();
function preload(id) {
  if (!originals.has(id)) {
    const failed = () => (originals.delete(id), ""); // another time it may come
    originals.set(id, imageFile(id).then((file) => URL.createObjectURL(file), failed));
  }
  return originals.get(id);
}

async function showLarge(id) {
  const large = at("#review-large");
  large.dataset.id = id;
  large.alt = `image ${id}`;
  large.removeAttribute("src"); // the one before must not be taken for this one while it is on its way
  seen = false;
  large.setAttribute("aria-busy", "true");
  const url = await preload(id);
  for (const [other, made] of originals) {
    if (other === id || groups.slice(0, 2).some((group) => group.ids.includes(other))) continue;
    originals.delete(other);
    made.then((old) => URL.revokeObjectURL(old));
  }
  if (large.dataset.id !== String(id)) return;
  if (url) large.src = url;
  else tell("The picture cannot be shown: its file is gone, or the service does not answer.");
  await (url && large.decode().catch(() => {}));
  if (large.dataset.id !== String(id)) return;
  seen = true;
  large.removeAttribute("aria-busy");
}

function option(group, id, index) {
  const picture = make("img");
  showThumbnail(picture, id, `picture ${index + 1} of ${group.ids.length}`);
  const shown = make("li", { tabIndex: index ? -1 : 0, onclick: (event) => pick(group, index, event) }, picture);
  shown.setAttribute("role", "option");
  shown.setAttribute("aria-selected", "true");
  shown.dataset.index = index;
  return shown;
}

/** A click selects one picture, with Ctrl it or none of it, with Shift all from the last one on. */
function pick(group, index, event) {
  const ids = group.ids;
  if (event.shiftKey) selected = new Set(ids.slice(Math.min(anchor, index), Math.max(anchor, index) + 1));
  else if (event.ctrlKey || event.metaKey) selected.has(ids[index]) ? selected.delete(ids[index]) : selected.add(ids[index]);
  else selected = new Set([ids[index]]);
  if (!event.shiftKey) anchor = index;
  showSelected(group);
  showLarge(ids[index]);
}

function showSelected(group) {
  for (const shown of pictures.children) shown.setAttribute("aria-selected", String(selected.has(group.ids[shown.dataset.index])));
  status.textContent = `${selected.size} of ${group.ids.length} selected.`;
}

function showLabels(group) {
  const names = labels.get(group.category) ?? [];
  const keyOf = new Map(Object.entries(keys[group.category] ?? {}).map(([key, label]) => [label, key]));
  at("#review-labels").replaceChildren(
    ...names.map((label) => {
      const key = keyOf.get(label);
      const button = make("button", { type: "button", onclick: () => decide("label", label) }, ...(key ? [make("kbd", { textContent: key })] : []), label);
      Object.assign(button.dataset, { label, ...(key ? { key } : {}) });
      button.setAttribute("aria-pressed", String(label === chosen));
      return make("li", {}, button);
    }),
  );
  at("#review-known").replaceChildren(...names.map((value) => make("option", { value })));
}

/** Move the label that Enter gives. */
function choose(step) {
  const buttons = [...at("#review-labels").querySelectorAll("button")];
  if (!buttons.length) return;
  const now = buttons.findIndex((button) => button.dataset.label === chosen);
  const next = buttons[(now + step + buttons.length) % buttons.length];
  chosen = next.dataset.label;
  for (const button of buttons) button.setAttribute("aria-pressed", String(button === next));
  next.scrollIntoView({ block: "nearest" });
}

/** Say what the selected pictures show, each by itself; the next group comes when all of it is kept. */
async function decide(action, label = null) {
  const group = groups[0];
  if (busy || coming || !group) return;
  if (!seen) return tell("The picture is still on its way.");
  const ids = group.ids.filter((id) => selected.has(id));
  if (!ids.length) return (status.textContent = "Nothing is selected.");
  busy = true;
  at("#review-frame").setAttribute("aria-busy", "true");
  const done = [];
  const elsewhere = [];
  let failure = null;
  for (const id of ids) {
    try {
      await ask(`/v1/${action}`, form(label === null ? { image_id: id } : { image_id: id, label }));
      done.push(id);
    } catch (error) {
      if (error.type === DECIDED) elsewhere.push(id);
      else failure = error;
      if (error.type !== DECIDED && !isOfTheImage(error)) break;
    }
  }
  busy = false;
  at("#review-frame").removeAttribute("aria-busy");
  spent += Math.min(PAUSE, (performance.now() - shownAt) / 1000);
  if (done.length) said.push({ action, label, ids: done, group });
  settle([...done, ...elsewhere], group.category);
  tabs.postMessage({ decided: [...done, ...elsewhere], category: group.category });
  if (label !== null && done.length && !(labels.get(group.category) ?? []).includes(label)) labels.get(group.category)?.push(label);
  showFirst();
  if (failure) status.textContent = failure.message;
  else if (done.length) tell(`${wordsOf(action, label, done.length)}${elsewhere.length ? `; ${elsewhere.length} had been decided elsewhere` : ""}.`);
  else tell("That had been decided elsewhere.");
  if (!coming && (!groups.length || said.length % AHEAD === 0)) again();
}

const wordsOf = (action, label, count) => `${action === "label" ? label : "None of these"}${count > 1 ? `, ${count} pictures` : ""}`;
const tell = (words) => (at("#review-said").textContent = words);

/** Tell whether it is one image's fault; else no other would fare better. */
const isOfTheImage = (error) => [404, 410, 422].includes(error.status);

/** What was said of the category that is shown. */
const here = () => said.filter((each) => each.group.category === at("#review-category").value);

/** Take images of a category out of what waits. */
function settle(ids, category) {
  const gone = ids.filter((id) => !decided.has(id));
  for (const id of gone) decided.add(id);
  groups = groups.map((group) => ({ ...group, ids: group.ids.filter((id) => !decided.has(id)) })).filter((group) => group.ids.length);
  if (category === at("#review-category").value) waiting = Math.max(0, waiting - gone.length);
}

/** Weigh what waits anew: what has been said counts. The group that is shown stays. */
const again = () =>
  latest(async (isLatest) => {
    if (!(await fetchQueue(isLatest, true))) return;
    if (at("#review-frame").hidden) showFirst();
    tellProgress();
  });

function skip() {
  const [group, ...rest] = groups;
  if (busy || !group) return;
  for (const id of group.ids) skipped.add(id);
  sessionStorage.setItem("skipped", JSON.stringify([...skipped]));
  groups = [...rest, group];
  showFirst();
  tell(rest.length ? "Skipped: it comes again at the end." : "It is the only one that is left.");
}

/** The one that was skipped last, or is the last of all. */
function back() {
  if (busy || groups.length < 2) return;
  groups = [groups.at(-1), ...groups.slice(0, -1)];
  showFirst();
}

async function undo() {
  const last = here().at(-1);
  if (busy || coming) return;
  if (!last) return tell("There is nothing to undo.");
  busy = true;
  const back = [];
  const kept = [];
  let failure = null;
  for (const id of last.ids) {
    try {
      await ask(`/v1/${last.action}`, form({ image_id: id, undo: true }));
      back.push(id);
    } catch (error) {
      failure = error;
      if (!isOfTheImage(error)) kept.push(id); // else it was taken back elsewhere
    }
  }
  busy = false;
  said = said.flatMap((each) => (each !== last ? [each] : kept.length ? [{ ...last, ids: kept }] : []));
  for (const id of back) decided.delete(id);
  tabs.postMessage({ open: back, category: last.group.category });
  if (back.length && last.group.category === at("#review-category").value) {
    const others = groups.map((group) => ({ ...group, ids: group.ids.filter((id) => !back.includes(id)) }));
    groups = [{ ...last.group, ids: back }, ...others.filter((group) => group.ids.length)];
    waiting += back.length;
    showFirst();
  }
  tellProgress();
  tell(failure ? failure.message : `Taken back: ${wordsOf(last.action, last.label, back.length)}.`);
}

function tellProgress() {
  const count = (several) => several.reduce((sum, each) => sum + each.ids.length, 0);
  const done = count(here());
  const all = done + waiting;
  const bar = at("#review-progress");
  bar.max = Math.max(1, all);
  bar.value = done;
  const rest = done >= 3 && waiting ? `, about ${duration((spent / count(said)) * waiting)}` : "";
  at("#review-count").textContent = all ? `${done} of ${all}${rest}` : "";
}

const duration = (seconds) => (seconds < 90 ? "a minute" : `${Math.round(seconds / 60)} minutes`);

const KEYS = {
  Enter: () => chosen && decide("label", chosen),
  " ": () => chosen && decide("label", chosen),
  n: () => decide("reject"),
  s: skip,
  ArrowRight: skip,
  ArrowLeft: back,
  ArrowDown: () => choose(1),
  ArrowUp: () => choose(-1),
  u: undo,
  "/": () => at("#review-other").focus(),
};

document.addEventListener("keydown", (event) => {
  if (at("#review").hidden || at("#review-frame").hidden && event.key !== "u" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
  if (event.target.closest("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const onButton = event.target.closest("button, a, summary, input") && ["Enter", " "].includes(event.key);
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (onButton) return;
  if (event.target.getAttribute("role") === "option" && movedInList(event, key)) return event.preventDefault();
  // The keys that are shown: another label may have moved them since, and shows them with the next picture.
  const button = [...at("#review-labels").querySelectorAll("[data-key]")].find((each) => each.dataset.key === key);
  const action = KEYS[key] ?? (button && (() => decide("label", button.dataset.label)));
  if (!action) return;
  event.preventDefault();
  action();
});

/** In the list of pictures: arrows move, the space bar selects. */
function movedInList(event, key) {
  const index = Number(event.target.dataset.index);
  if (key === " ") {
    pick(groups[0], index, { ctrlKey: true });
    return true;
  }
  const next = pictures.children[index + ({ ArrowRight: 1, ArrowLeft: -1 }[key] ?? 0)];
  if (!["ArrowRight", "ArrowLeft"].includes(key) || !next) return false;
  event.target.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  return true;
}

/** A rubber band: drawn from between the pictures, it selects those that it touches. */
pictures.addEventListener("pointerdown", (start) => {
  if (start.target !== pictures || start.button !== 0) return;
  start.preventDefault();
  const band = make("div", { className: "band" });
  const before = start.ctrlKey || start.metaKey ? new Set(selected) : new Set();
  document.body.append(band);
  const draw = (event) => {
    const box = { left: Math.min(start.clientX, event.clientX), top: Math.min(start.clientY, event.clientY), right: Math.max(start.clientX, event.clientX), bottom: Math.max(start.clientY, event.clientY) };
    Object.assign(band.style, { left: `${box.left}px`, top: `${box.top}px`, width: `${box.right - box.left}px`, height: `${box.bottom - box.top}px` });
    selected = new Set(before);
    for (const shown of pictures.children) {
      const its = shown.getBoundingClientRect();
      if (its.left < box.right && its.right > box.left && its.top < box.bottom && its.bottom > box.top) selected.add(groups[0].ids[shown.dataset.index]);
    }
    showSelected(groups[0]);
  };
  pictures.setPointerCapture(start.pointerId);
  pictures.addEventListener("pointermove", draw);
  pictures.addEventListener("lostpointercapture", () => (pictures.removeEventListener("pointermove", draw), band.remove()), { once: true });
});

tabs.onmessage = ({ data }) => {
  for (const id of data.open ?? []) decided.delete(id);
  const shown = groups[0]?.ids.join();
  settle(data.decided ?? [], data.category);
  if (at("#review").hidden || busy || data.category !== at("#review-category").value) return;
  if (groups[0]?.ids.join() !== shown) showFirst();
  else tellProgress();
  if (data.open?.length && !coming) again();
};

at("#review-form").addEventListener("submit", (event) => event.preventDefault());
at("#review-form").addEventListener("change", () => {
  only = null;
  at("#review-category").blur(); // the next key is for the picture
  show();
});
at("#review-give").addEventListener("submit", (event) => {
  event.preventDefault();
  const other = at("#review-other");
  const label = other.value.trim();
  other.value = "";
  other.blur();
  if (label) decide("label", label);
});
for (const [id, action] of [["none", () => decide("reject")], ["skip", skip], ["undo", undo], ["accept", KEYS.Enter]]) at(`#review-${id}`).addEventListener("click", action);

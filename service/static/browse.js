// The browse view: what is indexed, what failed, and an index run.

import { ask, askJson } from "./api.js";
import { follow } from "./job.js";
import { asking, at, fill, make, notHere, placeOf, remember, restore, telling } from "./page.js";
import { queryLike } from "./query.js";
import { tile } from "./tile.js";

const status = at("#index-status");
const listing = asking(status);
let facts = null;
let next = 0;
let lost = false; // an address named what there is not

export function offer(given) {
  facts = given;
  fill(at("#browse-category"), facts.categories.map((one) => one.category), "all");
  offerLabels();
}

function offerLabels() {
  const own = facts.categories.filter((one) => ["", one.category].includes(at("#browse-category").value));
  fill(at("#browse-label"), [...new Set(own.flatMap((one) => one.labels.map((label) => label.label)))].sort(), "all");
}

const chosenBy = { category: at("#browse-category"), label: at("#browse-label"), role: at("#browse-role"), show: at("#browse-order") };
const chosen = () => Object.fromEntries(Object.entries(chosenBy).map(([name, element]) => [name, element.value]));

export function show(address) {
  if (facts === null) return; // the service has not said what there is
  restore(address, { category: chosenBy.category });
  offerLabels();
  const unknown = restore(address, chosenBy);
  if (!unknown.length) return again();
  return listing(async () => {
    at("#images").replaceChildren();
    at("#more").hidden = true;
    status.textContent = notHere(unknown);
    lost = true;
  });
}

/** What comes next is fetched before somebody has scrolled to it. */
const nearing = new IntersectionObserver(([end]) => end.isIntersecting && list(next), { rootMargin: "600px" });

export function again() {
  if (lost) status.textContent = "";
  lost = false;
  return Promise.all([chosen().show ? listNext() : list(0), telling(status, failures)]);
}

/** What is most worth labelling, and what each label needs. */
const listNext = () =>
  listing(async (isLatest) => {
    const { next: worth, labels, beyond } = await askJson("/v1/next", { parameters: { category: at("#browse-category").value } });
    if (!isLatest()) return;
    at("#images").replaceChildren(
      ...worth.map((one) => {
        const alike = one.stands_for > 1 ? `, stands for ${one.stands_for}` : "";
        const lines = [
          make("div", { textContent: `${one.category}: nearest ${one.nearest} ${one.score.toFixed(3)}` }),
          make("div", { textContent: `disagreement ${one.disagreement.toFixed(2)}, doubt ${one.doubt.toFixed(2)}${alike}` }),
        ];
        return tile({ id: one.id, category: one.category }, lines, () => queryLike(one.id));
      }),
    );
    at("#more").hidden = true;
    const needs = labels.filter((one) => one.tells && one.more !== 0);
    const told = [
      ...needs.map((one) => `${one.label}: ${one.more === null ? "more shots will not help" : `about ${one.more} more shots`}`),
      ...beyond.map((name) => `${name}: too many shots to estimate what its labels need`),
    ];
    status.textContent = worth.length ? told.join("; ") : "Every query has a label.";
  });

/** List the images after an id: the first ones take the place of what is there, and only once they have come. */
const list = (after) =>
  listing(async (isLatest) => {
    const { category, label, role } = chosen();
    const parameters = { category, label, role, after };
    const page = await askJson("/v1/images", { parameters });
    if (!isLatest()) return;
    const tiles = page.images.map((image) => {
      const lines = [make("div", { textContent: `${placeOf(image)} (${image.role})` })];
      if (image.caption) lines.push(make("div", { textContent: image.caption }));
      const item = tile(image, lines, () => queryLike(image.id));
      if (image.path.split("/").at(-2) === ADDED && image.role === "query") at(".buttons", item).append(removing(image, item));
      return item;
    });
    if (after === 0) at("#images").replaceChildren();
    at("#images").append(...tiles);
    next = page.next;
    at("#more").hidden = next === null;
    nearing.unobserve(at("#more")); // so that it is told anew whether it is near
    nearing.observe(at("#more"));
  });

const ADDED = "added"; // the directory of what came over HTTP

/** A button that takes away an image that somebody added. */
function removing(image, item) {
  const button = make("button", { type: "button", textContent: "Remove" });
  button.setAttribute("aria-label", `Remove image ${image.id}, which was added`);
  button.addEventListener("click", () => {
    button.disabled = true;
    return telling(status, async () => {
      await ask(`/v1/images/${image.id}`, { method: "DELETE" });
      item.remove();
      status.textContent = "Removed.";
    }).finally(() => (button.disabled = false));
  });
  return button;
}

async function failures() {
  const { failures: failed } = await askJson("/v1/status");
  const list = at("#failures");
  list.hidden = failed.length === 0;
  at("summary", list).textContent = `${failed.length} images could not be used`;
  at("ul", list).replaceChildren(...failed.map((one) => make("li", { textContent: `${one.path}: ${one.reason}` })));
}

at("#browse-category").addEventListener("change", offerLabels);
at("#browse-form").addEventListener("change", () => {
  remember("browse", chosen());
  again();
});
at("#more").addEventListener("click", () => list(next));
at("#index-now").addEventListener("click", () =>
  follow("/v1/index", {}, {
    button: at("#index-now"),
    bar: at("#index-progress"),
    status,
    running: (run) => (run.total ? `${run.done} of ${run.total} files read ...` : "Looking for what is new ..."),
    ended(run) {
      status.textContent = inWords(run);
      document.dispatchEvent(new Event("store-changed"));
    },
  }),
);

function inWords(run) {
  const reports = Object.values(run.reports);
  const counts = ["added", "changed", "moved", "removed", "failed"].map((name) => [name, reports.reduce((sum, report) => sum + report[name], 0)]);
  const changed = counts.filter(([, count]) => count).map(([name, count]) => `${count} ${name}`).join(", ");
  const end = { finished: "Done", failed: "Not all was indexed", interrupted: "Interrupted" }[run.state];
  return [`${end}: ${changed || "nothing was new"}.`, ...Object.values(run.errors)].join(" ");
}

// The search view: words in, a gallery out.

import { ask, askJson, form } from "./api.js";
import { addressOf, asking, at, fill, make, notHere, placeOf, remember, restore, stopped, telling } from "./page.js";
import { queryLike } from "./query.js";
import { tile } from "./tile.js";

const status = at("#search-status");
const searching = asking(status);

const chosenBy = { q: at("#words"), mode: at("#search-mode"), category: at("#search-category"), role: at("#search-role"), false: at("#search-false") };
const chosen = () => Object.fromEntries(Object.entries(chosenBy).map(([name, element]) => [name, element.value]));
let named = []; // the labels that there are, with their category and number of shots

export function offer(facts) {
  named = facts.categories.flatMap((one) => one.labels.map((label) => ({ ...label, category: one.category })));
  fill(at("#search-category"), facts.categories.map((one) => one.category), "all");
}

export function show(address) {
  if (!address.get("q")) return;
  const unknown = restore(address, chosenBy);
  if (!unknown.length) return look();
  return searching(async () => {
    at("#found").replaceChildren();
    status.textContent = notHere(unknown);
  });
}

at("#search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  remember("search", chosen());
  look();
});

function look() {
  status.textContent = "Looking ...";
  searching(async (isLatest) => {
    const parameters = { ...chosen(), limit: 60 };
    offerNamed(parameters);
    const results = await askJson("/v1/search", { parameters });
    if (!isLatest()) return;
    at("#found").replaceChildren(...results.found.map((one) => found(one, parameters.q, results)));
    const by = { captions: "captions", image: "images", hybrid: "captions and images" }[results.mode];
    const count = results.found.length || "Nothing";
    status.textContent = [`${count} found by ${by}.`, ...stopped(results.stop), ...results.missing.map((reason) => `Without ${reason}.`)].join(" ");
  });
}

const plain = (name) => name.toLowerCase().split(/[^\p{L}\p{N}]+/u).filter(Boolean);

/** Labels that are called by the words: each word is one of theirs, or begins one. */
function offerNamed({ q, category }) {
  const words = plain(q);
  const fits = ({ label }) => words.length && words.every((word) => plain(label).some((own) => own.startsWith(word)));
  const own = named.filter((one) => ["", one.category].includes(category) && fits(one)).slice(0, 20);
  at("#named").replaceChildren(
    ...own.map((one) => {
      const href = addressOf("browse", { category: one.category, label: one.label });
      return make("li", {}, make("a", { href, textContent: `${one.category}/${one.label}` }), ` ${one.images} shot${one.images === 1 ? "" : "s"}`);
    }),
  );
  at("#named").hidden = !own.length;
}

function found(one, words, results) {
  const caption = make("div");
  // The words that matched stand in brackets.
  for (const [place, part] of (one.snippet ?? one.caption ?? "").split(/\[([^\]]*)\]/).entries()) {
    caption.append(place % 2 && one.snippet ? make("mark", { textContent: part }) : part);
  }
  return tile(one, [make("div", { textContent: `${placeOf(one)} (${one.role})` }), caption], () => queryLike(one.id), async (said) => {
    const place = { words, mode: results.mode, rank: one.rank };
    if (results.mode !== "captions") place.backbone = results.backbone;
    if (one.image_score !== null) place.score = one.image_score;
    let done = false;
    await telling(status, async () => {
      await ask("/v1/mark", form({ hit_id: one.id, ...place, ...said }));
      done = true;
    });
    return done;
  });
}

// The search view: words in, a gallery out.

import { ask, askJson, form } from "./api.js";
import { asking, at, fill, make, placeOf, stopped, telling, tile } from "./page.js";
import { queryLike } from "./query.js";

const status = at("#search-status");
const searching = asking(status);

export function offer(facts) {
  fill(at("#search-category"), facts.categories.map((one) => one.category), "all");
}

at("#search-form").addEventListener("submit", (event) => {
  event.preventDefault();
  status.textContent = "Looking ...";
  searching(async (isLatest) => {
    const parameters = {
      q: at("#words").value,
      mode: at("#search-mode").value,
      category: at("#search-category").value,
      role: at("#search-role").value,
      false: at("#search-false").value,
      limit: 60,
    };
    const results = await askJson("/v1/search", { parameters });
    if (!isLatest()) return;
    at("#found").replaceChildren(...results.found.map((one) => found(one, parameters.q, results)));
    const by = { captions: "captions", image: "images", hybrid: "captions and images" }[results.mode];
    const count = results.found.length || "Nothing";
    status.textContent = [`${count} found by ${by}.`, ...stopped(results.stop), ...results.missing.map((reason) => `Without ${reason}.`)].join(" ");
  });
});

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

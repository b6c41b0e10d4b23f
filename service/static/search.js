// The search view: words in, a gallery out.

import { askJson } from "./api.js";
import { asking, at, fill, make, placeOf, tile } from "./page.js";
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
      limit: 60,
    };
    const results = await askJson("/v1/search", { parameters });
    if (!isLatest()) return;
    at("#found").replaceChildren(...results.found.map(found));
    const by = { captions: "captions", image: "images", hybrid: "captions and images" }[results.mode];
    const count = results.found.length || "Nothing";
    status.textContent = [`${count} found by ${by}.`, ...results.missing.map((reason) => `Without ${reason}.`)].join(" ");
  });
});

function found(one) {
  const caption = make("div");
  // The words that matched stand in brackets.
  for (const [place, part] of (one.snippet ?? one.caption ?? "").split(/\[([^\]]*)\]/).entries()) {
    caption.append(place % 2 && one.snippet ? make("mark", { textContent: part }) : part);
  }
  return tile(one, [make("div", { textContent: `${placeOf(one)} (${one.role})` }), caption], () => queryLike(one.id));
}

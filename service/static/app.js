// The page: views by the address's fragment, and what the service offers.

import { askJson, keyed, useKey } from "./api.js";
import * as browse from "./browse.js";
import * as map from "./map.js";
import { at, telling } from "./page.js";
import * as policy from "./policy.js";
import * as query from "./query.js";
import "./report.js";
import * as review from "./review.js";
import * as search from "./search.js";

/** What an address names: a view, and what is chosen in it. */
function addressed() {
  const [view, chosen] = location.hash.slice(1).split("?");
  return [VIEWS.includes(view) ? view : "query", new URLSearchParams(chosen ?? "")];
}

const VIEWS = ["query", "search", "review", "browse", "map", "policy", "report"];
const SHOW = { query: query.show, search: search.show, review: review.show, browse: browse.show, map: map.show, policy: policy.show };

function route() {
  const [view, chosen] = addressed();
  for (const name of VIEWS) at(`#${name}`).hidden = name !== view;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  document.title = `nearshot: ${view}`;
  SHOW[view]?.(chosen);
}

async function offer() {
  const facts = await askJson("/v1/categories");
  for (const view of [query, search, review, browse, map, policy]) view.offer(facts);
}

async function start() {
  await telling(at("#query-status"), async () => {
    await offer();
    at("#key-form").hidden = true;
    at("#query-status").textContent = "";
  });
  route();
}

document.addEventListener("store-changed", () => telling(at("#index-status"), async () => (await offer(), await browse.again())));
document.addEventListener("key-wanted", () => {
  at("#key-said").textContent = keyed() ? "That key is not known here, or may not do this." : "";
  at("#key-form").hidden = false;
  at("#key").focus();
});
at("#key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  useKey(at("#key").value.trim());
  start();
});
window.addEventListener("hashchange", route);
start();

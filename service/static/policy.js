// The policy view: what threshold and margin do to every labelled query of a category, and keeping others by hand.

import { askJson, form } from "./api.js";
import { verdictOf } from "./decide.js";
import { follow } from "./job.js";
import { asking, at, fill, make, notHere, remember, restore } from "./page.js";
import { queryLike } from "./query.js";
import { tile } from "./tile.js";

const status = at("#policy-status");
const loading = asking(status);
const SHOWN = 60; // pictures of each kind
const ROOM = { left: 58, bottom: 34, top: 10, right: 24 }; // of the plot, for what is written at its sides
let policy = null; // what the service told last
const FIELDS = { category: at("#policy-category"), backbone: at("#policy-backbone"), score: at("#policy-score") };
const [threshold, margin] = [at("#policy-threshold"), at("#policy-margin")];

export function offer(facts) {
  fill(FIELDS.category, facts.categories.filter((one) => one.labels.length).map((one) => one.category));
  fill(FIELDS.backbone, facts.backbones.map((one) => one.name), "best known");
}

export const show = (chosen) =>
  loading(async (isLatest) => {
    const unknown = restore(chosen, FIELDS);
    at("#policy-frame").hidden = true;
    if (unknown.length) return void (status.textContent = notHere(unknown));
    if (!FIELDS.category.value) return void (status.textContent = "No category has shots.");
    status.textContent = "Scoring the labelled queries ...";
    const told = await askJson("/v1/policy", { parameters: asked() });
    if (isLatest()) take(told);
  });

const asked = () => ({ category: FIELDS.category.value, backbone: FIELDS.backbone.value, score_by: FIELDS.score.value });

function take(told) {
  policy = told;
  const many = policy.queries.length;
  const force = `In force: threshold ${policy.threshold.toFixed(3)}, margin ${policy.margin_floor.toFixed(3)} (${policy.origin}).`;
  status.textContent = many
    ? `${many} labelled quer${many === 1 ? "y" : "ies"} by ${policy.backbone} and ${policy.score_by}. ${force}`
    : `${force} There are no labelled queries to try another on: put some into 6.preprocessed/<label>/ (or Unknown/), and index them.`;
  at("#policy-frame").hidden = false;
  at("#policy-plot").parentElement.hidden = at("#policy-outcomes").parentElement.hidden = many === 0;
  at("#policy-undo").hidden = !policy.by_hand;
  const scores = policy.queries.map((query) => query.score);
  const low = Math.floor(Math.min(...scores, policy.threshold) * 20 - 0.5) / 20;
  Object.assign(threshold, { min: Math.max(low, -1), max: 1 });
  Object.assign(margin, { min: 0, max: Math.max(0.1, Math.ceil(10 * Math.max(0, ...policy.queries.map((query) => query.margin ?? 0), policy.margin_floor)) / 10) });
  reset();
}

function reset() {
  threshold.step = margin.step = "any"; // what is in force may have more decimals than a finger
  [threshold.value, margin.value] = [policy.threshold, policy.margin_floor];
  decide();
}

/** What becomes of a query: the words of the table. */
function outcomeOf(query, least, lead) {
  const known = query.truth !== "Unknown";
  const verdict = verdictOf({ ...query, negative: query.rejected || null }, least, lead);
  if (verdict === "ambiguous") return "ambiguous, of both";
  if (verdict === "unknown") return known ? "known: refused" : "strangers: refused";
  if (!known) return "strangers: let in";
  return query.nearest === query.truth ? "known: right" : "known: wrong";
}

const OUTCOMES = ["known: right", "known: wrong", "known: refused", "strangers: refused", "strangers: let in", "ambiguous, of both"];
const BAD = new Set(["known: wrong", "strangers: let in"]);

function decide() {
  const [least, lead] = [threshold.valueAsNumber, margin.valueAsNumber];
  at("output", threshold.parentElement).textContent = least.toFixed(3);
  at("output", margin.parentElement).textContent = lead.toFixed(3);
  const before = policy.queries.map((query) => outcomeOf(query, policy.threshold, policy.margin_floor));
  const after = policy.queries.map((query) => outcomeOf(query, least, lead));
  const count = (outcomes, wanted) => outcomes.filter((one) => one === wanted).length;
  at("#policy-outcomes").replaceChildren(
    ...OUTCOMES.map((name) => {
      const [was, is] = [count(before, name), count(after, name)];
      const change = is === was ? "" : `${is > was ? "+" : "−"}${Math.abs(is - was)}`;
      return make("tr", {}, make("th", { scope: "row", textContent: name }), number(was), number(is), number(change));
    }),
  );
  const flips = policy.queries.map((query, number) => ({ query, was: before[number], is: after[number] })).filter((one) => one.was !== one.is);
  const kinds = {
    "Known images lost": flips.filter((one) => one.was === "known: right"),
    "Known images won": flips.filter((one) => one.is === "known: right"),
    "Let in, or answered wrong": flips.filter((one) => BAD.has(one.is)),
    "Kept out, or no longer wrong": flips.filter((one) => BAD.has(one.was)),
  };
  at("#policy-flips").replaceChildren(...Object.entries(kinds).filter(([, some]) => some.length).map(([title, some]) => flipped(title, some)));
  at("#policy-keep").disabled = least === policy.threshold && lead === policy.margin_floor;
  plot(least, lead, after);
}

/** An outcome without whose it is. */
const shortly = (outcome) => outcome.replace(/^(known|strangers): /, "").replace(", of both", "");

const number = (value) => make("td", { className: "number", textContent: value });

function flipped(title, some) {
  const list = make("ul", { className: "gallery" });
  for (const { query, is } of some.slice(0, SHOWN)) {
    const lead = query.margin === null ? "" : `, lead ${query.margin.toFixed(3)}`;
    const line = (textContent) => make("div", { textContent });
    const lines = [line(query.truth), line(`${shortly(is)}: ${query.nearest} ${query.score.toFixed(3)}${lead}`)];
    const image = { id: query.image_id, category: policy.category, label: query.truth, shot: null };
    list.append(tile(image, lines, () => queryLike(query.image_id)));
  }
  const rest = some.length > SHOWN ? ` (${SHOWN} are shown)` : "";
  return make("section", {}, make("h2", { textContent: `${title}: ${some.length}${rest}` }), list);
}

/** Every labelled query by its score and its lead, on a canvas: there may be many thousands. */
function plot(least, lead, outcomes) {
  const canvas = at("#policy-plot");
  const density = window.devicePixelRatio || 1;
  const width = canvas.clientWidth || 760;
  const height = Math.max(240, Math.round(width * 0.55));
  canvas.style.height = `${height}px`;
  Object.assign(canvas, { width: width * density, height: height * density });
  const pen = canvas.getContext("2d");
  pen.scale(density, density);
  const colour = (name) => resolved(canvas, name);
  const across = (score) => ROOM.left + ((score - threshold.min) / (threshold.max - threshold.min)) * (width - ROOM.left - ROOM.right);
  const up = (value) => height - ROOM.bottom - (Math.min(value, margin.max) / margin.max) * (height - ROOM.bottom - ROOM.top);
  pen.font = "12px system-ui, sans-serif";
  pen.fillStyle = colour("soft");
  pen.textAlign = "center";
  for (let step = 0; step <= 4; step += 1) {
    const score = Number(threshold.min) + (step / 4) * (threshold.max - threshold.min);
    pen.fillText(score.toFixed(2), across(score), height - 18);
    pen.textAlign = "right";
    pen.fillText(((step / 4) * margin.max).toFixed(2), ROOM.left - 6, up((step / 4) * margin.max) + 4);
    pen.textAlign = "center";
  }
  pen.fillText("score", width / 2, height - 3);
  pen.save();
  pen.translate(14, height / 2);
  pen.rotate(-Math.PI / 2);
  pen.fillText("lead", 0, 0);
  pen.restore();
  policy.queries.forEach((query, number) => {
    const [x, y] = [across(query.score), up(query.margin ?? margin.max)];
    pen.strokeStyle = colour({ "known: right": "match", "strangers: refused": "match", "ambiguous, of both": "ambiguous" }[outcomes[number]] ?? "unknown");
    pen.lineWidth = 2;
    pen.beginPath();
    if (query.truth === "Unknown") {
      pen.moveTo(x - 4, y - 4), pen.lineTo(x + 4, y + 4), pen.moveTo(x + 4, y - 4), pen.lineTo(x - 4, y + 4);
    } else if (query.truth === query.nearest) {
      pen.arc(x, y, 4, 0, 2 * Math.PI);
    } else {
      pen.rect(x - 4, y - 4, 8, 8);
    }
    pen.stroke();
  });
  pen.strokeStyle = colour("text");
  pen.lineWidth = 1.5;
  pen.setLineDash([5, 4]);
  pen.beginPath();
  pen.moveTo(across(least), ROOM.top), pen.lineTo(across(least), height - ROOM.bottom);
  pen.moveTo(across(Math.max(least, threshold.min)), up(lead)), pen.lineTo(width - ROOM.right, up(lead));
  pen.stroke();
}

const colours = new Map();

/** A colour of the style sheet as a canvas takes it: light-dark() is not known to it. */
function resolved(canvas, name) {
  const scheme = matchMedia("(prefers-color-scheme: dark)").matches;
  const key = `${name} ${scheme}`;
  if (!colours.has(key)) {
    const probe = make("span", { style: `color: var(--${name})`, hidden: true });
    canvas.parentElement.append(probe);
    colours.set(key, getComputedStyle(probe).color);
    probe.remove();
  }
  return colours.get(key);
}

const say = (fields, done) =>
  loading(async (isLatest) => {
    const told = await askJson("/v1/policy", form({ category: policy.category, backbone: policy.backbone, score_by: policy.score_by, ...fields }));
    if (!isLatest()) return;
    take(told);
    at("#policy-said").textContent = done;
  });

at("#policy-calibrate").addEventListener("click", () => {
  const { category, backbone } = policy;
  follow("/v1/calibrate", form({ category, backbone, false_accept: at("#policy-accept").value }), {
    button: at("#policy-calibrate"),
    bar: at("#policy-progress"),
    status: at("#policy-said"),
    running: (run) => `Calibrating ${category} by ${backbone}: ${run.done} of ${run.total || "some"} scores ...`,
    async ended(run) {
      const scores = Object.values(run.reports).filter((report) => report.score);
      const missing = [...new Set(scores.filter((report) => !report.calibrated).map((report) => report.missing))];
      const done = scores.filter((report) => report.calibrated).length;
      await show(new URLSearchParams(Object.entries(FIELDS).map(([name, one]) => [name, one.value])));
      at("#policy-said").textContent = [done ? `${done} of ${scores.length} scores are calibrated.` : "Nothing was changed.", ...missing, ...Object.values(run.errors)].join(" ");
    },
  });
});
for (const slider of [threshold, margin]) {
  slider.addEventListener("input", () => {
    slider.step = "0.001";
    at("#policy-said").textContent = "";
    decide();
  });
}
for (const field of Object.values(FIELDS)) {
  field.addEventListener("change", () => {
    const chosen = Object.fromEntries(Object.entries(FIELDS).map(([name, one]) => [name, one.value]));
    remember("policy", chosen);
    at("#policy-said").textContent = "";
    show(new URLSearchParams(chosen));
  });
}
at("#policy-form").addEventListener("submit", (event) => event.preventDefault());
at("#policy-reset").addEventListener("click", reset);
at("#policy-keep").addEventListener("click", () => say({ threshold: threshold.value, margin_floor: margin.value }, "Kept: it answers from now on."));
at("#policy-undo").addEventListener("click", () => say({ undo: "true" }, "Taken back."));
window.addEventListener("resize", () => policy && !at("#policy").hidden && decide());
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => policy && decide());

// The query view: an image in, a verdict that can be looked at, moved and corrected.

import { ask, askJson, form, imageFile, showThumbnail } from "./api.js";
import { reasonOf, verdictOf } from "./decide.js";
import { askMany, dropped, leaveMany } from "./many.js";
import { onPart, part, partFile, showWhole } from "./part.js";
import { addressOf, asking, at, fill, make, notHere, placeOf, remember, restore, stopped, telling } from "./page.js";
import { tile } from "./tile.js";

const WORDS = { match: "match", ambiguous: "ambiguous", unknown: "Unknown", no_support: "no shots" };
const status = at("#query-status");
const latest = asking(status);
let several = null; // the files asked about, where they are many
let current = null; // the image asked about: a file, and what is known of it where it is an indexed one
let backbones = [];
let labels = new Map();

export function offer(facts) {
  fill(at("#query-category"), facts.categories.map((one) => one.category), "all");
  labels = new Map(facts.categories.map((one) => [one.category, one.labels.map((label) => label.label)]));
  if (backbones.length === 0) {
    backbones = facts.backbones.map((one) => one.name);
    at("#query-backbones").append(
      ...backbones.map((name) => {
        const box = make("input", { type: "checkbox", value: name, onchange: again });
        return make("label", {}, box, name);
      }),
    );
    at("#query-backbones").hidden = backbones.length < 2;
  }
}

/** Until an answer has come, the cards of the one before cannot be pressed: what they say would go with them. */
const looking = (action) =>
  latest(async (isLatest) => {
    at("#answers").inert = true;
    try {
      await action(isLatest);
    } finally {
      if (isLatest()) at("#answers").inert = false;
    }
  });

export function query(file, image = null, note = "") {
  current = { file, image, note };
  return looking((isLatest) => answer(current, isLatest));
}

const chosenBy = { category: at("#query-category"), score: at("#query-score"), false: at("#query-false") };
const boxes = () => [...document.querySelectorAll("#query-backbones input")];
const checked = () => boxes().filter((box) => box.checked).map((box) => box.value);
const chosen = () => ({
  ...Object.fromEntries(Object.entries(chosenBy).map(([name, element]) => [name, element.value])),
  backbones: checked().join(","),
});

/** An address with an indexed image is one of its answer. */
export function show(address) {
  if (!address.has("image")) return;
  const wanted = (address.get("backbones") ?? "").split(",").filter(Boolean);
  for (const box of boxes()) box.checked = wanted.includes(box.value);
  const unknown = [...restore(address, chosenBy), ...wanted.filter((name) => !backbones.includes(name)).map((name) => `backbone ${name}`)];
  if (!/^\d+$/.test(address.get("image"))) unknown.push(`image ${address.get("image")}`);
  if (!unknown.length) return like(address.get("image"));
  return looking(async () => {
    at("#answers").replaceChildren();
    status.textContent = notHere(unknown);
  });
}

/** Query with an indexed image, from another view. */
export function queryLike(id) {
  const address = addressOf("query", { image: id, ...chosen() });
  if (location.hash === address) return like(id);
  location.hash = address; // the view it names shows it
}

function like(id) {
  leaveMany();
  several = null;
  return looking(async (isLatest) => {
    const [file, image] = await Promise.all([imageFile(id), askJson(`/v1/images/${id}`)]);
    if (!isLatest()) return;
    current = { file, image };
    await answer(current, isLatest);
  });
}

async function answer({ file, image, note }, isLatest) {
  const wanted = checked().length ? checked() : [""]; // the service takes the best, as the command line does
  showWhole(file);
  status.textContent = "Looking ...";
  const answered = await Promise.all(wanted.map((backbone) => answerOf(file, backbone)));
  const asked = await partFile();
  if (!isLatest()) return;
  for (const shown of document.querySelectorAll(".asked img")) URL.revokeObjectURL(shown.src);
  const url = URL.createObjectURL(asked);
  const known = asked === file ? image : null;
  const cards = answered.map((given) => card(given, asked, url, known));
  at("#answers").replaceChildren(...(cards.length > 1 ? [compared(answered, cards)] : []), ...cards);
  status.textContent = note ?? "";
}

async function answerOf(file, backbone) {
  const parameters = {
    backbone,
    category: at("#query-category").value,
    score_by: at("#query-score").value,
    top_k: 12,
    against: "all",
    false: at("#query-false").value,
    boxes: part(),
  };
  const body = new FormData();
  body.append("images", file, file.name || "image");
  const given = await askJson("/v1/query", { method: "POST", body, parameters });
  return { answer: given.answers[0], given };
}

function askAgain() {
  if (!current) return;
  if (current.image) remember("query", { image: current.image.id, ...chosen() });
  return query(current.file, current.image, current.note);
}
const again = () => (several ? askSeveral() : askAgain());

onPart(askAgain);

function card({ answer, given }, file, url, image) {
  const shown = at("#answer-template").content.cloneNode(true).firstElementChild;
  at(".backbone", shown).textContent = answer.backbone;
  at(".asked img", shown).src = url;
  picture(at(".nearest", shown), answer.nearest_hit, "nearest");
  picture(at(".runner-up", shown), answer.runner_up_hit, "best other label");
  const notes = [given.policies[answer.nearest_category] ?? ""];
  if (image?.role === "support") notes.push("the image is one of the shots itself");
  if (answer.close.length > 1) notes.push(`too close to choose between ${answer.close.join(", ")}`);
  if (given.lacking) notes.push(`${given.lacking} support images have not been seen by ${answer.backbone} yet`);
  for (const [category, why] of Object.entries(given.lapsed)) notes.push(`the promise of ${category} has lapsed: ${why}`);
  if (given.recall !== null) notes.push(`images that are no shots are found approximately (recall@10 ${given.recall.toFixed(3)})`);
  if (given.stale.length) notes.push(`the shots of ${given.stale.join(", ")} changed since they were calibrated`);
  at(".policy", shown).textContent = `By ${answer.score_by} (${given.score_reason}), threshold ${answer.threshold}, margin ${answer.margin_floor}: ${notes.filter(Boolean).join("; ")}. `;
  if (answer.nearest_category !== null) {
    const href = addressOf("policy", { category: answer.nearest_category, backbone: answer.backbone, score: answer.score_by });
    at(".policy", shown).append(make("a", { href, textContent: "What another threshold does to all labelled queries" }));
  }
  const category = image?.category ?? answer.category ?? answer.nearest_category;
  const told = at(".said", shown);
  const mark = async (hit, said) => {
    let done = false;
    await telling(told, async () => {
      image ??= await askJson("/v1/images", form({ image: file, category }));
      await ask("/v1/mark", form({ image_id: image.id, hit_id: hit.id, ...said }));
      told.textContent = said.undo ? "Taken back." : "Marked.";
      done = true;
    });
    return done;
  };
  for (const [role, list] of [["support", at(".shots", shown)], ["query", at(".queries", shown)]]) {
    const own = answer.hits.filter((hit) => hit.role === role);
    list.append(
      ...own.map((hit) => tile(hit, [make("div", { textContent: `${hit.score.toFixed(3)} ${placeOf(hit)}` })], () => queryLike(hit.id), (said) => mark(hit, said))),
    );
    list.hidden = list.previousElementSibling.hidden = !own.length;
  }
  explained(at(".explained", shown), answer, file);
  if (given.answers[0].stop) at(".shots", shown).previousElementSibling.before(make("p", { textContent: stopped(answer.stop).join(" ") }));
  sliders(shown, answer);
  feedback(shown, answer, file, image, category);
  return shown;
}

/** Several backbones' answers side by side, what they agree on, and one form to say what the image shows. */
function compared(answered, cards) {
  const shown = at("#compared-template").content.cloneNode(true).firstElementChild;
  const answers = answered.map((given) => given.answer);
  at(".agreed", shown).textContent = agreed(answers);
  at("tbody", shown).append(
    ...answers.map((one, place) => {
      const to = make("button", { type: "button", textContent: one.backbone, onclick: () => cards[place].scrollIntoView({ behavior: "smooth" }) });
      const number = (value) => make("td", { className: "number", textContent: value === null ? "" : value.toFixed(3) });
      const verdict = make("td", { className: one.verdict, textContent: WORDS[one.verdict] + (one.label ? `: ${one.label}` : "") });
      const nearest = make("td", { textContent: one.nearest ?? "" });
      return make("tr", {}, make("th", { scope: "row" }, to), verdict, nearest, number(one.score), number(one.margin), number(one.threshold));
    }),
  );
  shown.append(at(".feedback", cards[0]), at(".said", cards[0]));
  for (const each of cards.slice(1)) at(".feedback", each).remove();
  return shown;
}

/** What answers agree on: a label, or that there is none. */
function agreed(answers) {
  const labels = new Set(answers.map((one) => (one.label === null ? null : `${one.nearest_category}/${one.label}`)));
  if (labels.size > 1) return "They do not agree.";
  const [label] = labels;
  return label === null ? "None of them matches a label." : `All of them match ${label}.`;
}

/** What made the score, drawn when it is first looked at; `file` is the image, or the part, that was asked about. */
function explained(details, answer, file) {
  details.hidden = answer.nearest_hit === null;
  const said = at("p", details);
  details.addEventListener(
    "toggle",
    () =>
      telling(said, async () => {
        said.textContent = "Drawing ...";
        const parameters = { backbone: answer.backbone, category: at("#query-category").value, score_by: answer.score_by };
        const drawn = await ask("/v1/explain", { ...form({ image: file }), parameters });
        const shown = at("img", details);
        shown.alt = `the image and ${placeOf(answer.nearest_hit)}, warm where they make the score; lines join places that look alike`;
        shown.src = URL.createObjectURL(await drawn.blob());
        shown.onload = () => URL.revokeObjectURL(shown.src);
        shown.hidden = false;
        said.textContent = "Warm places make the score; lines join those that look alike most.";
      }),
    { once: true },
  );
}

function picture(figure, hit, name) {
  figure.hidden = hit === null;
  if (hit === null) return;
  showThumbnail(at("img", figure), hit.id, `${name}: ${placeOf(hit)}`);
  at("figcaption", figure).textContent = `${name}: ${placeOf(hit)}, cosine ${hit.score.toFixed(3)}`;
}

function sliders(shown, answer) {
  const threshold = at(".threshold", shown);
  const margin = at(".margin", shown);
  const low = Math.floor(Math.min(answer.score ?? 0, answer.runner_up_score ?? 1, answer.threshold) * 10 - 0.5) / 10;
  Object.assign(threshold, { min: Math.max(low, -1), max: 1 });
  Object.assign(margin, { min: 0, max: Math.max(0.5, answer.margin ?? 0) });
  const draw = () => {
    const [least, lead] = [threshold.valueAsNumber, margin.valueAsNumber];
    const verdict = verdictOf(answer, least, lead);
    const label = verdict === "match" ? `: ${answer.nearest}` : "";
    Object.assign(at(".verdict", shown), { textContent: WORDS[verdict] + label, className: `verdict ${verdict}` });
    at(".why", shown).textContent = reasonOf(answer, least, lead);
    threshold.previousElementSibling.textContent = least.toFixed(3);
    margin.previousElementSibling.textContent = lead.toFixed(3);
    at(".scale", shown).replaceChildren(scale(answer, least, lead, threshold.min, verdict));
  };
  const reset = () => {
    threshold.step = margin.step = "any"; // a calibrated threshold has more decimals than a finger
    threshold.value = answer.threshold;
    margin.value = answer.margin_floor;
    draw();
  };
  for (const slider of [threshold, margin]) {
    slider.addEventListener("input", () => {
      slider.step = "0.001";
      draw();
    });
  }
  at(".reset", shown).addEventListener("click", reset);
  reset();
}

/** The scores, the threshold and the margin on one scale. */
function scale(answer, threshold, margin, min, verdict) {
  const x = (score) => 2 + (96 * (score - min)) / (1 - min); // in percent, so that words keep their size on a phone
  const svg = element("svg", { width: "100%", height: 92, role: "img" });
  svg.append(element("title", {}, `scores from ${Number(min).toFixed(1)} to 1, threshold ${threshold.toFixed(3)}`));
  svg.append(element("line", { x1: "2%", x2: "98%", y1: 46, y2: 46, stroke: "var(--line)", "stroke-width": 2 }));
  svg.append(text(2, 64, Number(min).toFixed(1), "var(--soft)"), text(98, 64, "1", "var(--soft)"));
  if (answer.score === null) return svg;
  const floor = x(Math.max(answer.score - margin, min));
  svg.append(
    element("rect", { x: `${floor}%`, y: 40, width: `${x(answer.score) - floor}%`, height: 12, fill: "var(--accent)", opacity: 0.25 }),
    element("line", { x1: `${x(threshold)}%`, x2: `${x(threshold)}%`, y1: 26, y2: 66, stroke: "var(--text)", "stroke-width": 2, "stroke-dasharray": "4 3" }),
    text(x(threshold), 82, `threshold ${threshold.toFixed(3)}`),
  );
  const dots = [[answer.score, answer.nearest, `var(--${verdict === "no_support" ? "unknown" : verdict})`, 10]];
  if (answer.runner_up_score !== null) dots.push([answer.runner_up_score, answer.runner_up, "var(--soft)", 7]);
  dots.forEach(([score, label, colour, size], place) => {
    svg.append(element("circle", { cx: `${x(score)}%`, cy: 46, r: size, fill: colour }), text(x(score), place ? 32 : 16, `${label} ${score.toFixed(3)}`));
  });
  return svg;
}

function text(x, y, words, colour = "var(--text)") {
  const anchor = x < 20 ? "start" : x > 80 ? "end" : "middle";
  return element("text", { x: `${x}%`, y, "text-anchor": anchor, fill: colour, "font-size": 14 }, words);
}

export function element(name, attributes, words = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = words;
  return made;
}

function feedback(shown, answer, file, image, category) {
  const said = at(".said", shown);
  const undo = at(".undo", shown);
  // A shot says already what it shows; without a category there is no place for a shot.
  at(".feedback", shown).hidden = category === null || image?.role === "support";
  const input = at(".label", shown);
  const known = make("datalist", { id: `labels-${answer.backbone}` });
  known.append(...(labels.get(category) ?? []).map((label) => make("option", { value: label })));
  at(".feedback", shown).append(known);
  input.setAttribute("list", known.id);
  const say = (path, fields, done) =>
    telling(said, async () => {
      said.textContent = "Adding it ...";
      const put = image ? null : await ask("/v1/images", form({ image: file, category }));
      const added = image ?? (await put.json());
      await ask(path, form({ image_id: added.id, ...fields }));
      said.textContent = done;
      undo.hidden = false;
      undo.onclick = () =>
        telling(said, async () => {
          await ask(path, form({ image_id: added.id, undo: true }));
          if (put?.status === 201) await ask(`/v1/images/${added.id}`, { method: "DELETE" }); // it came for that alone
          undo.hidden = true;
          said.textContent = "Taken back.";
        });
    });
  at(".feedback", shown).addEventListener("submit", (event) => {
    event.preventDefault();
    say("/v1/label", { label: input.value }, `It is a shot of ${category}/${input.value} now, and counts from the next query on.`);
  });
  at(".reject", shown).addEventListener("click", () =>
    say("/v1/reject", {}, `It is a negative of ${category} now: what is nearer to it than to any shot is Unknown.`),
  );
}

const drop = at("#drop");
for (const name of ["dragenter", "dragover"]) drop.addEventListener(name, (event) => (event.preventDefault(), drop.classList.add("over")));
for (const name of ["dragleave", "drop"]) drop.addEventListener(name, () => drop.classList.remove("over"));
// What misses the drop zone must not make the browser leave the page.
for (const name of ["dragover", "drop"]) document.addEventListener(name, (event) => event.preventDefault());
let drops = 0; // a folder that is still being looked through, when another is dropped, is left
drop.addEventListener("drop", (event) => {
  const mine = (drops += 1);
  telling(status, async () => {
    const files = await dropped(event.dataTransfer);
    if (mine === drops) take(files);
  });
});
document.addEventListener("paste", (event) => take([...event.clipboardData.files]));
for (const input of [at("#file"), at("#folder"), at("#camera")]) {
  input.addEventListener("change", () => {
    take([...input.files]);
    input.value = "";
  });
}
for (const select of [at("#query-category"), at("#query-score"), at("#query-false")]) select.addEventListener("change", again);

/** One image gets its card, many a table: each of them gets its card when it is chosen there. */
function take(files) {
  if (!files.length) return;
  drops += 1;
  location.hash = "#query";
  leaveMany();
  several = files.length > 1 ? files : null;
  if (!several) return query(files[0]);
  current = null;
  return askSeveral();
}

/** Whatever was being asked is left, and the cards of before go. */
const askSeveral = () =>
  looking(async () => {
    at("#answers").replaceChildren();
    status.textContent = "";
    const backbone = at("#query-backbones input:checked")?.value ?? "";
    const parameters = { backbone, category: at("#query-category").value, score_by: at("#query-score").value, top_k: 1 };
    askMany(several, parameters, async (file) => {
      await query(file);
      at("#answers").scrollIntoView({ behavior: "smooth" });
    });
  });

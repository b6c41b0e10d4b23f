// Many files at once: each with its verdict, in a table that sorts, filters and can be taken along.

import { askJson } from "./api.js";
import { reasonOf } from "./decide.js";
import { at, make } from "./page.js";

const TOGETHER = 8; // images of a request
const BYTES = 16 << 20; // and their bytes: a request may have 64 MiB
const REQUESTS = 2; // at once: the service encodes what comes together in one pass
const NO_IMAGE = /^(text|video|audio|application)\//;
const COLUMNS = ["file", "verdict", "label", "nearest", "score", "lead", "why"];
const NUMBERS = new Set(["score", "lead"]);
const body = at("#many tbody");
let rows = [];
let order = { column: null, down: false };
let sortedAt = 0;
let run = 0; // the newest one; an older one stops

/** All files that were dropped, those of directories too, with their paths below what was dropped. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean); // before anything is waited for
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  const walk = async (entry, path) => {
    if (entry.isFile) {
      const file = await new Promise((resolve, reject) => entry.file(resolve, reject));
      files.push(Object.assign(file, { within: path + file.name }));
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject)); // a hundred at a time
      if (!some.length) return;
      for (const each of some) await walk(each, `${path}${entry.name}/`);
    }
  };
  for (const entry of entries) await walk(entry, "");
  return files;
}

const nameOf = (file) => file.within || file.webkitRelativePath || file.name;
const isImage = (file) => !file.name.startsWith(".") && !NO_IMAGE.test(file.type);

/** Ask no more: something else is looked at. */
export function leaveMany() {
  run += 1;
  at("#many").hidden = true;
}

/** Ask about many files, with the parameters of a query; `open` shows one of them. */
export async function askMany(files, parameters, open) {
  const mine = (run += 1);
  for (const row of rows) URL.revokeObjectURL(row.url);
  const images = files.filter(isImage).sort((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1));
  rows = images.map((file) => ({ file, name: nameOf(file), open, url: null, values: { file: nameOf(file), verdict: "" } }));
  order = { column: null, down: false };
  at("#many").hidden = false;
  at("#many-stop").hidden = false;
  show();
  const passed = files.length - images.length;
  const note = passed ? `; ${passed} that are no images passed over` : "";
  const tell = (more = "") => {
    const done = rows.filter((row) => row.values.verdict).length;
    Object.assign(at("#many-progress"), { max: Math.max(1, rows.length), value: done });
    const counts = ["match", "ambiguous", "unknown", "unreadable"].map((verdict) => [rows.filter((row) => row.values.verdict === verdict).length, verdict]);
    const found = counts.filter(([count]) => count).map(([count, verdict]) => `${count} ${verdict}`).join(", ");
    at("#many-status").textContent = `${done} of ${rows.length} looked at${found ? `: ${found}` : ""}${note}.${more}`;
  };
  tell();
  let next = 0;
  let stopped = "";
  const worker = async () => {
    while (mine === run && !stopped && next < rows.length) {
      const some = [];
      for (let bytes = 0; next < rows.length && some.length < TOGETHER && (!some.length || bytes + rows[next].file.size <= BYTES); next += 1) {
        bytes += rows[next].file.size;
        some.push(rows[next]);
      }
      try {
        const answers = await answersOf(some, parameters);
        if (mine !== run) return;
        take(some, answers);
      } catch (error) {
        if (mine === run) stopped = ` ${error.message}`;
        return;
      }
      tell();
      for (const row of some) fillRow(row);
      if (order.column && Date.now() - sortedAt > 1000) show();
      else filter();
    }
  };
  await Promise.all(Array.from({ length: REQUESTS }, worker));
  if (mine !== run) return;
  at("#many-stop").hidden = true;
  show();
  tell(stopped);
}

/** The answers of some files; where none of them can be read, that is each one's answer. A queue that is full is waited for. */
async function answersOf(some, parameters) {
  const form = new FormData();
  for (const row of some) form.append("images", row.file, row.file.name || "image");
  for (let wait = 500; ; wait *= 2) {
    try {
      return (await askJson("/v1/query", { method: "POST", body: form, parameters })).answers;
    } catch (error) {
      if (error.status === 503 && wait <= 8000) {
        await new Promise((resolve) => setTimeout(resolve, wait));
        continue;
      }
      const gone = error.status === undefined ? await Promise.all(some.map(isGone)) : [];
      if (![400, 413, 422].includes(error.status) && !gone.includes(true)) throw error;
      if (some.length > 1) return (await Promise.all(some.map((row) => answersOf([row], parameters)))).flat();
      return [{ error: gone[0] ? "the file is gone, or has changed" : error.message.replace(`${some[0].file.name}: `, "") }];
    }
  }
}

/** Tell whether a file can no longer be read: a request that was to send it fails as if the service did not answer. */
const isGone = (row) => row.file.arrayBuffer().then(() => false, () => true);

function take(some, answers) {
  some.forEach((row, index) => {
    const answer = answers[index];
    row.answer = answer;
    row.values = answer.error
      ? { file: row.name, verdict: "unreadable", why: answer.error }
      : { file: row.name, verdict: answer.verdict, label: answer.label, nearest: answer.nearest, score: answer.score, lead: answer.margin, why: reasonOf(answer, answer.threshold, answer.margin_floor) };
  });
}

function show() {
  sortedAt = Date.now();
  for (const row of rows) {
    if (!row.shown) {
      const name = make("button", { type: "button", textContent: row.name, onclick: () => row.open(row.file) });
      row.shown = make("tr", {}, make("td", {}, make("img", { alt: "", loading: "lazy" })), make("td", {}, name), ...COLUMNS.slice(1).map(() => make("td")));
      fillRow(row);
    }
  }
  body.replaceChildren(...sorted().map((row) => row.shown));
  for (const header of document.querySelectorAll("#many th[data-column]")) {
    const isIt = header.dataset.column === order.column;
    if (isIt) header.setAttribute("aria-sort", order.down ? "descending" : "ascending");
    else header.removeAttribute("aria-sort");
  }
  filter();
}

/** Pictures are read from the files as their rows are looked at, and not all at once. */
const looking = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      looking.unobserve(target);
      const row = rows.find((each) => each.shown === target);
      if (row) at("img", target).src = row.url ??= URL.createObjectURL(row.file);
    }
  },
  { rootMargin: "300px" },
);

function fillRow(row) {
  looking.observe(row.shown);
  COLUMNS.slice(1).forEach((column, index) => {
    const value = row.values[column];
    const cell = row.shown.cells[index + 2];
    cell.textContent = typeof value === "number" ? value.toFixed(3) : (value ?? "");
    cell.className = column === "verdict" ? String(value ?? "") : NUMBERS.has(column) ? "number" : "";
  });
}

function sorted() {
  const { column, down } = order;
  if (!column) return rows;
  const missing = (value) => value === null || value === undefined || value === "";
  return [...rows].sort((first, second) => {
    const [a, b] = [first.values[column], second.values[column]];
    if (missing(a) || missing(b)) return missing(a) - missing(b); // last, whichever way
    const compared = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return down ? -compared : compared;
  });
}

const isWanted = (row) => {
  const [verdict, words] = [at("#many-verdict").value, at("#many-words").value.trim().toLowerCase()];
  const said = [row.name, row.values.label, row.values.nearest].join(" ").toLowerCase();
  return (!verdict || row.values.verdict === verdict) && said.includes(words);
};

function filter() {
  for (const row of rows) row.shown.hidden = !isWanted(row);
}

/** What the table shows, in its order, as a file. */
function save(name, type, text) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  make("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

const wanted = () => sorted().filter((row) => row.values.verdict && isWanted(row));

/** Spreadsheets take what begins so for a formula, and would work it out. */
const cell = (value) => {
  const text = String(value ?? "");
  const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
};

at("#many-csv").addEventListener("click", () => {
  const lines = [COLUMNS, ...wanted().map((row) => COLUMNS.map((column) => row.values[column]))];
  save("answers.csv", "text/csv", lines.map((values) => `${values.map(cell).join(",")}\r\n`).join(""));
});
at("#many-json").addEventListener("click", () => save("answers.json", "application/json", JSON.stringify(wanted().map((row) => ({ ...row.answer, path: row.name })), null, 1)));
at("#many-stop").addEventListener("click", () => {
  run += 1;
  at("#many-stop").hidden = true;
  at("#many-status").textContent += " Stopped.";
});
for (const control of [at("#many-verdict"), at("#many-words")]) control.addEventListener("input", filter);
for (const button of document.querySelectorAll("#many th button")) {
  button.addEventListener("click", () => {
    const column = button.parentElement.dataset.column;
    order = { column, down: order.column === column && !order.down };
    show();
  });
}

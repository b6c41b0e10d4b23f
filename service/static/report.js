// The report view: the evaluation, faults in the shots, and what is known as a file.

import { ask, keyed } from "./api.js";
import { follow } from "./job.js";
import { at, make, telling } from "./page.js";

const SHOWN = 50; // faults of each kind

/** Fetch something and have the browser save it: a link cannot send a key. */
async function save(path, parameters, name) {
  const url = URL.createObjectURL(await (await ask(path, { parameters })).blob());
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

at("#report-link").addEventListener("click", (event) => {
  if (!keyed()) return;
  event.preventDefault();
  telling(at("#report-status"), () => save("/v1/report", {}, "report.html"));
});

const SUFFIXES = { jsonl: "jsonl", csv: "csv", labelstudio: "json", fiftyone: "json" };
for (const button of document.querySelectorAll("#report .export")) {
  button.addEventListener("click", async () => {
    const { format } = button.dataset;
    const status = at("#export-status");
    button.disabled = true;
    status.textContent = "Writing ...";
    await telling(status, async () => {
      await save("/v1/export", { format }, `nearshot.${SUFFIXES[format]}`);
      status.textContent = "Written.";
    });
    button.disabled = false;
  });
}

at("#lint-now").addEventListener("click", () =>
  follow("/v1/lint", {}, {
    button: at("#lint-now"),
    bar: at("#lint-progress"),
    status: at("#lint-status"),
    running: (run) => (run.total ? `${run.done} of ${run.total} pictures looked at ...` : "Looking ..."),
    ended: tell,
  }),
);

function tell(run) {
  const reports = Object.values(run.reports);
  const [errors, warnings] = ["errors", "warnings"].map((name) => reports.reduce((sum, report) => sum + report[name], 0));
  const counted = `${errors} error${errors === 1 ? "" : "s"}, ${warnings} warning${warnings === 1 ? "" : "s"}.`;
  at("#lint-status").textContent = [counted, ...Object.values(run.errors)].join(" ");
  const kinds = new Map();
  for (const finding of reports.flatMap((report) => report.findings)) {
    const kind = `${finding.severity}: ${finding.meaning}`;
    kinds.set(kind, [...(kinds.get(kind) ?? []), finding]);
  }
  at("#faults").replaceChildren(
    ...[...kinds].map(([kind, findings]) => {
      const lines = findings.slice(0, SHOWN).map((one) => make("li", { textContent: `${one.files.join(", ") || one.category}${one.detail ? ` (${one.detail})` : ""}` }));
      if (findings.length > SHOWN) lines.push(make("li", { textContent: `... and ${findings.length - SHOWN} more` }));
      return make("section", {}, make("h3", { textContent: kind }), make("ul", {}, ...lines));
    }),
  );
}

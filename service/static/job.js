// A run of the service, begun and followed to its end.

import { askJson, events } from "./api.js";
import { telling } from "./page.js";

/** Begin a run and show how far it is; `ended` is given its last state. */
export async function follow(path, options, { button, bar, status, running, ended }) {
  button.disabled = true;
  bar.hidden = false;
  bar.removeAttribute("value");
  status.textContent = running({ done: 0, total: 0 });
  await telling(status, async () => {
    const { id } = await askJson(path, { method: "POST", ...options });
    let last = null;
    for await (const run of events(`/v1/runs/${id}/events`)) {
      last = run;
      if (run.total) Object.assign(bar, { max: run.total, value: run.done });
      if (run.state === "running") status.textContent = running(run);
    }
    await ended(last);
  });
  bar.hidden = true;
  button.disabled = false;
}

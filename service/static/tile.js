// An item of a gallery.

import { showThumbnail } from "./api.js";
import { enlarge } from "./large.js";
import { make, placeOf } from "./page.js";

/** Two buttons that say whether a hit is right; pressed again, a mark is taken back. */
function marking(image, say) {
  const button = (textContent, right) => {
    const made = make("button", { type: "button", textContent });
    made.setAttribute("aria-pressed", "false");
    made.setAttribute("aria-label", `${textContent}: ${placeOf(image)}, image ${image.id}`);
    made.onclick = async () => {
      const taken = made.getAttribute("aria-pressed") === "true";
      if (!(await say(taken ? { undo: true } : { right }))) return;
      for (const each of both) each.setAttribute("aria-pressed", String(each === made && !taken));
    };
    return made;
  };
  const both = [button("Right", true), button("Not this", false)];
  return both;
}

/** A thumbnail that can be enlarged, with lines under it, and buttons: to query with that image, and to say whether it is right. */
export function tile(image, lines, onLike, say = null) {
  const picture = make("img");
  const large = make("button", { type: "button", className: "enlarge", onclick: () => enlarge(item) }, picture);
  large.setAttribute("aria-label", `Large: ${placeOf(image)}, image ${image.id}`);
  const like = make("button", { type: "button", className: "like", textContent: "More like this", onclick: onLike });
  like.setAttribute("aria-label", `More like ${placeOf(image)}, image ${image.id}`);
  showThumbnail(picture, image.id, placeOf(image));
  const item = make("li", {}, large, ...lines, make("div", { className: "buttons" }, like, ...(say ? marking(image, say) : [])));
  item.dataset.image = image.id;
  return item;
}

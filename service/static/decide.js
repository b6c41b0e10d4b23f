// The decision, as retriever/decision.py makes it: what an answer would be under another threshold and margin.

/** @returns {"match" | "ambiguous" | "unknown" | "no_support"} */
export function verdictOf(answer, threshold, margin) {
  if (answer.nearest === null) return "no_support";
  if (answer.negative !== null || answer.score < threshold) return "unknown";
  return answer.margin !== null && answer.margin < margin ? "ambiguous" : "match";
}

/** Why, in one sentence. */
export function reasonOf(answer, threshold, margin) {
  const name = (label, category) => (answer.category === null ? `${category}/${label}` : label);
  const show = (number) => number.toFixed(3);
  if (answer.nearest === null) return `There are no shots that ${answer.backbone} has seen.`;
  const nearest = name(answer.nearest, answer.nearest_category);
  if (answer.negative !== null) return "It is nearer to a rejected image than to any shot.";
  if (answer.score < threshold) {
    return `${nearest} comes nearest, but its score of ${show(answer.score)} is below the threshold of ${show(threshold)}.`;
  }
  if (answer.margin === null) return `${nearest} scores ${show(answer.score)}; there is no other label.`;
  const other = name(answer.runner_up, answer.runner_up_category);
  const lead = `${nearest} scores ${show(answer.score)} and leads ${other} by ${show(answer.margin)}`;
  return answer.margin < margin ? `${lead}: less than the margin of ${show(margin)}.` : `${lead}.`;
}

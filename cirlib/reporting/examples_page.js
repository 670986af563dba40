// One sound plays at a time; a sound that is stopped by another starts again from its beginning. Repeated sounds share data.
const players = [...document.querySelectorAll("audio")];
for (const player of players) {
  if (player.dataset.same) player.src = document.getElementById(player.dataset.same).src;
  const button = player.closest("figure").querySelector("button");
  button.addEventListener("click", () => player.paused ? player.play().catch(() => {}) : player.pause());
  player.addEventListener("pause", () => button.setAttribute("aria-pressed", "false"));
  player.addEventListener("play", () => {
    button.setAttribute("aria-pressed", "true");
    for (const other of players) if (other !== player && !other.paused) { other.pause(); other.currentTime = 0; }
  });
}

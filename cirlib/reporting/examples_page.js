// One sound plays at a time; a sound that is stopped by another starts again from its beginning. Repeated sounds share data.
const players = [...document.querySelectorAll("audio")];
for (const player of players) {
  if (player.dataset.same) player.src = document.getElementById(player.dataset.same).src;
  player.addEventListener("play", () => {
    for (const other of players) if (other !== player && !other.paused) { other.pause(); other.currentTime = 0; }
  });
}

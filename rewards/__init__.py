"""How motion is judged: TMR, physics, segments, mixing."""

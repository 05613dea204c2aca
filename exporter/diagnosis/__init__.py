"""From a snapshot to the causes that hold in it: pure rules over plain values, and what explains what. No I/O, no clock."""

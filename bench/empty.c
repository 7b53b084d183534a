// A preloaded library with nothing in it: what the loader alone takes for one more.

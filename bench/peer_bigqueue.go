package main

// bigqueuePeer is in the table so that nobody looks for it in vain.
func bigqueuePeer() Peer {
	return Peer{
		Name:    "grandecola/bigqueue",
		About:   "memory-mapped queue",
		Missing: func() string { return "the Go module proxy refuses it (403)" },
	}
}

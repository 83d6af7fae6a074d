package engine

import "github.com/cove-engine/cove/internal/procfs"

// maxOwn is more than any file of ours that is read as a whole has: plans, envelopes.
const maxOwn = 64 << 20

// readOwn gives a file of ours.
func readOwn(path string) ([]byte, error) { return procfs.Read(path, maxOwn) }

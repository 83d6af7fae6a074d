package ctrinit

import "github.com/cove-engine/cove/internal/rootfs"

// The look-ups inside the root, see package rootfs.

func makeDir(root int, name string) (int, error)  { return rootfs.MakeDir(root, name) }
func makeFile(root int, name string) (int, error) { return rootfs.MakeFile(root, name) }

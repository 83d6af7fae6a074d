package library

import "go.podman.io/storage/pkg/reexec"

// Reexec must be the first thing main does in every program that imports this
// package: the storage library unpacks and packs layers in a chrooted child
// that is the same program called under another name (argv[0]). It reports
// whether this process was such a child and has done its work; main returns
// at once then. In any other process it costs one map look-up.
func Reexec() bool { return reexec.Init() }

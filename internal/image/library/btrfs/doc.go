// Package btrfs is the storage library's driver "btrfs" without C: a layer is a
// subvolume, a snapshot of the one below with its own changes. The library's own
// driver takes libbtrfs's headers and cgo; the layout is the same, so that podman
// and buildah, which have that one, share the store. A program built
// with it gets nothing from here.
package btrfs

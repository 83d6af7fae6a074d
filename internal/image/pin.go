package image

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
)

// PinID names a part of the pin that keeps an image's layers from other tools:
// its "layer", its "container" or that one's "container layer". It follows
// from the image's ID, so it can be looked for without opening the store.
func PinID(part, imageID string) string {
	sum := sha256.Sum256([]byte("cove pin " + part + " " + imageID))
	return hex.EncodeToString(sum[:])
}

// LayerDir is where the storage library's driver has a layer, below the graph
// root.
func LayerDir(driver, id string) string {
	switch driver {
	case "vfs":
		return filepath.Join("vfs", "dir", id)
	case "btrfs":
		return filepath.Join("btrfs", "subvolumes", id)
	}
	return filepath.Join(driver, id)
}

// Whole tells that with this driver the directory of a layer has all that is in the
// layers below as well.
func Whole(driver string) bool { return driver == "vfs" || driver == "btrfs" }

// Known tells whether cove can use the storage library's driver of that name.
func Known(driver string) bool { return driver == "overlay" || Whole(driver) }

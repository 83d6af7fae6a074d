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
	if driver == "vfs" {
		return filepath.Join("vfs", "dir", id)
	}
	return filepath.Join(driver, id)
}

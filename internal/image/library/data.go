package library

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"

	"go.podman.io/storage/pkg/lockfile"
)

// imageID is what the library calls an image, and the directory of what it has beside
// its layers.
var imageID = regexp.MustCompile(`^[0-9a-f]{64}$`)

// dropData removes directories of images that are none: the library deletes an image's
// record before its directory, and a removal was killed in between. Both are written
// under the lock of the images, a new one's record first: who holds that knows.
func (l *library) dropData() error {
	dir := l.imagesDir()
	images, err := l.store.Images()
	if err != nil {
		return err
	}
	known := map[string]bool{}
	for _, img := range images {
		known[img.ID] = true
	}
	if len(unknown(dir, known)) == 0 {
		return nil
	}
	lock, err := lockfile.GetLockFile(filepath.Join(dir, "images.lock"))
	if err != nil || !lock.IsReadWrite() {
		return err
	}
	lock.Lock()
	defer lock.Unlock()
	text, err := os.ReadFile(filepath.Join(dir, "images.json"))
	var now []struct{ ID string }
	if err == nil {
		err = json.Unmarshal(text, &now)
	}
	if err != nil {
		return err
	}
	for _, img := range now {
		known[img.ID] = true
	}
	var errs []error
	for _, name := range unknown(dir, known) {
		errs = append(errs, os.RemoveAll(filepath.Join(dir, name)))
	}
	return errors.Join(errs...)
}

// unknown lists the directories of images that are not known.
func unknown(dir string, known map[string]bool) (names []string) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if e.IsDir() && imageID.MatchString(e.Name()) && !known[e.Name()] {
			names = append(names, e.Name())
		}
	}
	return names
}

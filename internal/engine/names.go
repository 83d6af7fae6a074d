package engine

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/cove-engine/cove"
)

func newID() string {
	var b [cove.IDLength / 2]byte
	for {
		_, _ = rand.Read(b[:]) // never fails, crypto/rand
		id := hex.EncodeToString(b[:])
		// A short ID of digits alone could be taken for a number, as a host
		// name for instance.
		for _, c := range id[:cove.ShortIDLength] {
			if c >= 'a' {
				return id
			}
		}
	}
}

// bareName is a container's name without the slash that docker puts before it,
// and its users with it.
func bareName(name string) string { return strings.TrimPrefix(name, "/") }

// validName is podman's rule for names of containers and volumes. Those of volumes
// name files.
func validName(kind, name string) error {
	if ok, _ := regexp.MatchString(`^[a-zA-Z0-9][a-zA-Z0-9_.-]*$`, name); !ok {
		return cove.E("", "", cove.Invalid, errors.New(kind+" names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument: "+name))
	}
	if kind == "volume" && len(name) > cove.MaxNameLength {
		return cove.E("create volume", name, cove.Invalid, fmt.Errorf("file name too long: at most %d characters", cove.MaxNameLength))
	}
	return nil
}

// fileKind is the kind of a failure of the file system's. It is never NotFound: that an
// object's file is missing does not tell that there is no such object.
func fileKind(err error) cove.Kind {
	switch {
	case errors.Is(err, os.ErrNotExist):
		return cove.NoFile
	case errors.Is(err, os.ErrPermission):
		return cove.Denied
	case isFull(err), errors.Is(err, errJustEnding):
		return cove.Unavailable
	}
	return cove.Internal
}

func containerEvent(c *cove.Container, status string) cove.Event {
	return cove.Event{ID: c.ID, Image: c.Image.Name, Name: c.Name, Status: status, Time: time.Now(), Type: "container", Attributes: labels(c)}
}

// labels are the image's with the container's over them.
func labels(c *cove.Container) map[string]string {
	if len(c.Image.Labels) == 0 {
		return c.Spec.Labels
	}
	all := map[string]string{}
	for k, v := range c.Image.Labels {
		all[k] = v
	}
	for k, v := range c.Spec.Labels {
		all[k] = v
	}
	return all
}

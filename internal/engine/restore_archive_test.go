package engine

import (
	"strings"
	"testing"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// An archive's ID must not give its container's links another's names.
func TestClearOfLinks(t *testing.T) {
	e, r := engineWith(t)
	c := stored(t, e, "a", nil)
	other := strings.Repeat("9", 64)
	r.networks.reality.Links = []network.Link{{Name: "cv" + c.ID[:12] + "0", OwnerPrefix: c.ID[:12]}, {Name: "cv" + strings.Repeat("8", 12) + "0", OwnerPrefix: strings.Repeat("8", 12)}}
	for id, want := range map[string]string{
		c.ID:                                "",
		other:                               "",
		c.ID[:12] + other[12:]:              "the ID of container a begins with " + c.ID[:12] + ", too",
		strings.Repeat("8", 12) + c.ID[12:]: "a container that is not of this store has links by the ID 888888888888",
	} {
		err := e.clearOfLinks(t.Context(), id, 10*time.Millisecond)
		if want == "" && err != nil || want != "" && (!cove.Is(err, cove.Exists) || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: %v, want %s", id, err, want)
		}
	}
}

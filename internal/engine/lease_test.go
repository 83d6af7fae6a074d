package engine

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
)

// Whoever loses his address to somebody faster each time is told so in the end.
func TestWhileTaken(t *testing.T) {
	e, r := engineWith(t)
	const link = "cv0123456789ab0"
	// taken has another store take the address that the container has, calls times.
	taken := func(c *cove.Container, calls int) (tried []netip.Addr, err error) {
		err = e.whileTaken(t.Context(), c, func() error {
			a := c.Attachments[0].Addresses[0].Addr()
			tried = append(tried, a)
			if len(tried) > calls {
				return nil
			}
			r.networks.reality.Links = append(r.networks.reality.Links, network.Link{Name: link, OwnerPrefix: "0123456789ab", Addresses: []netip.Addr{a}})
			return &network.Taken{Addr: a, Link: link}
		})
		return tried, err
	}
	c := stored(t, e, "a", onNetwork("podman"))
	tried, err := taken(c, 3)
	seen := map[netip.Addr]bool{}
	for _, a := range tried {
		if seen[a] {
			t.Errorf("tried %v twice: %v", a, tried)
		}
		seen[a] = true
	}
	if err != nil || len(tried) != 4 {
		t.Errorf("three taken: tried %v, %v", tried, err)
	}
	tried, err = taken(c, 1000)
	if !errors.As(err, new(*network.Taken)) || len(tried) != addressTries+1 {
		t.Errorf("all taken: %d tries, %v", len(tried), err)
	}
	// One that was asked for is the answer at once.
	static := stored(t, e, "b", func(c *cove.Container) {
		onNetwork("podman")(c)
		c.Attachments[0].StaticIPs = []netip.Addr{netip.MustParseAddr("10.87.0.77")}
	})
	tried, err = taken(static, 1000)
	if !errors.As(err, new(*network.Taken)) || len(tried) != 1 {
		t.Errorf("asked for: %d tries, %v", len(tried), err)
	}
	// What else fails is not tried again.
	n, other := 0, errors.New("other")
	if err := e.whileTaken(t.Context(), c, func() error { n++; return other }); err != other || n != 1 {
		t.Errorf("another error: %d tries, %v", n, err)
	}
}

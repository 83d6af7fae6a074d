package native

import (
	"context"
	"errors"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

// Change implements [network.Driver].
func (d Driver) Change(ctx context.Context, r network.Request) (teardown.Teardown, error) {
	var none teardown.Teardown
	if err := r.Validate(); err != nil {
		return none, err
	}
	if err := ctx.Err(); err != nil {
		return none, err
	}
	fail := func(err error) (teardown.Teardown, error) {
		return none, cove.E("change networks of container", r.ContainerID[:cove.ShortIDLength], kindOf(err), err)
	}
	host, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(err)
	}
	defer host.shut()
	inside, err := openIn(r.Netns)
	if err != nil {
		return fail(err)
	}
	defer inside.shut()
	if err := ensureForwarding(&r); err != nil {
		return fail(err)
	}
	if err := relink(host, &r); err != nil {
		return fail(err)
	}
	// What is there stays as it is, and what the container itself has taken
	// away stays away.
	if err := configure(inside, &r, unix.EEXIST, unix.ENODEV); err != nil {
		return fail(err)
	}
	if err := settle(host, &r); err != nil {
		return fail(err)
	}
	if err := unpublish(&r); err != nil {
		return fail(err)
	}
	t, err := admit(&r, true)
	if err != nil {
		return fail(err)
	}
	return t, nil
}

// relink removes the container's links that the request does not have, and
// makes those that are missing or lead to no bridge.
func relink(host socket, r *network.Request) error {
	there := map[string]bool{} // by name, whether a bridge has it
	err := links(host, func(l link) {
		if owner, ok := network.LinkOwner(l.name); ok && l.kind == "veth" && owner == r.ContainerID[:len(owner)] {
			there[l.name] = l.master != 0
		}
	})
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for i := range r.Networks {
		wanted[linkName(r, &r.Networks[i])] = true
	}
	// First: one that goes may have the interface name or the route of one
	// that comes.
	for name := range there {
		if !wanted[name] {
			if err := removeLink(host, name); err != nil {
				return err
			}
		}
	}
	for i := range r.Networks {
		n := &r.Networks[i]
		if !there[linkName(r, n)] {
			if err := makeLink(host, r, n); err != nil {
				return err
			}
			continue
		}
		// Somebody may have taken it down, or its bridge.
		if _, err := ensureBridge(host, &n.Network); err != nil {
			return err
		}
		if err := bringUp(host, linkName(r, n)); err != nil {
			return err
		}
	}
	return nil
}

func bringUp(rt socket, name string) error {
	index, err := rt.index(name)
	if err != nil {
		return err
	}
	var m message
	m.up(index)
	if err := rt.must(&m); err != nil {
		return os.NewSyscallError("bring up "+name, err)
	}
	return nil
}

// unpublish takes back the ports that lead to networks that the container has
// left, and to no other of its networks instead. (Those are replaced by admit.)
func unpublish(r *network.Request) error {
	if len(r.Ports) == 0 {
		return nil
	}
	wanted, err := publications(r)
	if err != nil {
		return err
	}
	f, err := openFirewall()
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	defer f.shut()
	b := newBatch()
	for _, set := range portMaps {
		err := f.listSet(set, func(e element) {
			same := func(w element) bool { return w.set == e.set && string(w.key) == string(e.key) }
			if e.comment == r.ContainerID && !slices.ContainsFunc(wanted, same) {
				b.remove(e.set, e.key)
			}
		})
		if err != nil {
			return err
		}
	}
	if b.empty() {
		return nil
	}
	if _, err := f.commit(b); err != nil && !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

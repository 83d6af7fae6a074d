package native

import (
	"context"
	"errors"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

var portMaps = []string{mapPort4, mapPort4Any, mapPort6, mapPort6Any}

// List implements [network.Driver].
func (d Driver) List(ctx context.Context) (network.Reality, error) {
	var r network.Reality
	fail := func(err error) (network.Reality, error) {
		return network.Reality{}, cove.E("list networks of the kernel", "", kindOf(err), err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	rt, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return fail(err)
	}
	defer rt.shut()
	at, masters := map[string]uint32{}, map[uint32]bool{}
	err = links(rt, func(l link) {
		masters[l.master] = true
		if owner, ok := network.LinkOwner(l.name); ok && l.kind == "veth" {
			r.Links = append(r.Links, network.Link{Name: l.name, OwnerPrefix: owner, Loose: l.master == 0, Up: l.up, Addresses: l.addresses})
		}
		if id, ok := ownBridge(l.alias); ok && l.kind == "bridge" {
			r.Bridges = append(r.Bridges, network.Bridge{Name: l.name, NetworkID: id, Up: l.up})
			at[l.name] = l.index
		}
	})
	if err != nil {
		return fail(err)
	}
	for i := range r.Bridges {
		r.Bridges[i].Used = masters[at[r.Bridges[i].Name]]
	}
	err = addresses(rt, func(index uint32, p netip.Prefix) {
		for i := range r.Bridges {
			if b := &r.Bridges[i]; at[b.Name] == index {
				b.Addresses = append(b.Addresses, p)
			}
		}
	})
	if err != nil {
		return fail(err)
	}
	f, err := openFirewall()
	if err != nil {
		if missing(err) {
			return r, nil
		}
		return fail(err)
	}
	defer f.shut()
	var bad []error
	for _, set := range portMaps {
		err := f.listSet(set, func(e element) {
			p, err := published(e)
			if err != nil {
				bad = append(bad, err)
				return
			}
			r.Elements = append(r.Elements, p)
		})
		if err != nil {
			return fail(err)
		}
	}
	whole, err := f.whole()
	if err != nil {
		return fail(err)
	}
	err = f.listSet(mapFrom, func(e element) {
		r.Ruled = true
		name := cstring(e.key)
		i := slices.IndexFunc(r.Bridges, func(b network.Bridge) bool { return b.Name == name })
		if i < 0 {
			i, r.Bridges = len(r.Bridges), append(r.Bridges, network.Bridge{Name: name})
		}
		r.Bridges[i].Rules = whole(name)
	})
	if !r.Ruled && len(r.Bridges) > 0 {
		r.Ruled = f.able()
	}
	if err = errors.Join(err, errors.Join(bad...)); err != nil {
		return fail(err)
	}
	return r, nil
}

// able tells whether the kernel would take rules: it is asked by a batch that
// ends in what is refused anyway, so that nothing of it takes effect.
func (f *firewall) able() bool {
	b := newBatch()
	b.base(false)
	last := b.seq + 1
	b.deleteChain("cove-never")
	_, err := f.commit(b)
	var no *refused
	return errors.As(err, &no) && !slices.ContainsFunc(no.failures, func(x teardown.Failure) bool { return x.Seq < last })
}

// RemoveLink implements [network.Driver].
func (d Driver) RemoveLink(ctx context.Context, name string) error {
	const op = "remove link"
	if _, ok := network.LinkOwner(name); !ok {
		return cove.E(op, name, cove.Invalid, errors.New("not the name of a container's link"))
	}
	rt, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return cove.E(op, name, kindOf(err), err)
	}
	defer rt.shut()
	if err := removeLink(rt, name); err != nil {
		return cove.E(op, name, kindOf(err), err)
	}
	return nil
}

// RemoveElements implements [network.Driver].
func (d Driver) RemoveElements(ctx context.Context, containerID string) error {
	const op = "remove published ports"
	f, err := openFirewall()
	if err != nil {
		if missing(err) {
			return nil
		}
		return cove.E(op, containerID, kindOf(err), err)
	}
	defer f.shut()
	b := newBatch()
	for _, set := range portMaps {
		err := f.listSet(set, func(e element) {
			if e.comment == containerID {
				b.remove(e.set, e.key)
			}
		})
		if err != nil {
			return cove.E(op, containerID, kindOf(err), err)
		}
	}
	if b.empty() {
		return nil
	}
	if err := teardown.Run(teardown.Teardown{Nft: [][]byte{b.bytes()}}); err != nil {
		return cove.E(op, containerID, kindOf(err), err)
	}
	return nil
}

// RemoveNetwork implements [network.Driver].
func (d Driver) RemoveNetwork(ctx context.Context, n cove.Network) error {
	return removeBridge("remove network", n.Name, n.NetworkInterface, func(l link) bool {
		id, _ := ownBridge(l.alias)
		return id == n.ID && !l.foreign(&n) || l.unfinished(&n)
	})
}

// RemoveBridge implements [network.Driver].
func (d Driver) RemoveBridge(ctx context.Context, name string) error {
	return removeBridge("remove bridge", name, name, func(l link) bool { _, ok := ownBridge(l.alias); return ok })
}

// removeBridge deletes a bridge's rules and then the bridge, if it is cove's
// and owned accepts it. The rules of one that it does not are another network's.
func removeBridge(op, object, bridge string, owned func(link) bool) error {
	rt, err := open(unix.NETLINK_ROUTE)
	if err != nil {
		return cove.E(op, object, kindOf(err), err)
	}
	defer rt.shut()
	ours, others := false, false
	err = links(rt, func(l link) {
		if l.name == bridge && l.kind == "bridge" {
			_, named := ownBridge(l.alias)
			ours = owned(l)
			others = named && !ours
		}
	})
	if err == nil && !others {
		err = removeRules(bridge)
	}
	if err == nil && ours {
		err = removeLink(rt, bridge)
	}
	if err != nil {
		return cove.E(op, object, kindOf(err), err)
	}
	return nil
}

// removeRules deletes a bridge's chains and elements, if the firewall knows it.
func removeRules(bridge string) error {
	f, err := openFirewall()
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	defer f.shut()
	known, err := f.probe(&network.Request{Networks: []network.Membership{{Network: cove.Network{NetworkInterface: bridge}}}})
	if err != nil {
		if missing(err) {
			return nil
		}
		return err
	}
	if _, ok := known[bridge]; !ok {
		return nil
	}
	for _, nat := range []bool{true, false} {
		b := newBatch()
		b.removeNetwork(bridge, nat)
		if err = f.besideDocker(b, bridge, false); err != nil {
			return err
		}
		if _, err = f.commit(b); err == nil || !absent(err) {
			return err
		}
	}
	return err
}

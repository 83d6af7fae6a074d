package engine

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/state"
)

// network looks for links, firewall elements and bridges.
func (k *survey) network() {
	e := k.e
	for _, n := range k.going {
		k.suspicions = append(k.suspicions, suspicion{
			Difference: Difference{Kind: "network", Object: n.Name, Owner: n.ID, Problem: "its removal was cut short"},
			kind:       lock.Network, id: n.Name,
			still: func() (bool, error) {
				found := false
				err := e.store.View(func(tx state.Tx) error {
					going, err := goingNetworks(tx)
					found = slices.ContainsFunc(going, func(g cove.Network) bool { return g.ID == n.ID })
					return err
				})
				return found, err
			},
			verb: func() error { return e.finishNetworks(k.ctx) },
		})
	}
	r, err := e.networks.List(k.ctx)
	if err != nil {
		k.fail(err)
		return
	}
	k.uplink()
	k.links(r)
	k.elements(r)
	k.rules(r)
	k.bridges(r)
}

// uplink looks for what connects an ordinary user's bridges.
func (k *survey) uplink() {
	if k.e.lan == nil {
		return
	}
	on := ""
	for id, c := range k.records {
		if k.running[id] && len(c.Attachments) > 0 {
			on = id
		}
	}
	if on == "" {
		return
	}
	k.suspicions = append(k.suspicions, suspicion{
		Difference: Difference{Kind: "uplink", Object: k.e.userMode(), Owner: on, Problem: "missing, and containers are on this user's networks"},
		still: func() (bool, error) {
			kept, err := k.e.lan.Kept()
			if idle, ierr := k.idle(on); kept || idle || err != nil || ierr != nil {
				return false, errors.Join(err, ierr)
			}
			return true, nil
		},
		repair: func() error {
			netns, _, err := k.e.lan.Join()
			if err == nil {
				err = unix.Close(netns)
			}
			return err
		},
	})
}

func (k *survey) links(r network.Reality) {
	e := k.e
	for _, l := range r.Links {
		id := k.owner(l.OwnerPrefix)
		if id == "" || k.running[id] {
			continue
		}
		k.leftover("link", l.Name, id,
			func() (bool, error) {
				r, err := e.networks.List(k.ctx)
				return slices.ContainsFunc(r.Links, func(now network.Link) bool { return now.Name == l.Name }), err
			},
			func() error { return e.networks.RemoveLink(k.ctx, l.Name) })
	}
	for id, c := range k.records {
		for i := range c.Attachments {
			a := c.Attachments[i]
			name := network.LinkName(id, a.Link)
			if !k.running[id] || a.Pending != "" {
				continue
			}
			k.cutOff(r, "link", name, id, a.Network, func(r network.Reality) string { return linkProblem(r, name) })
			if n := slices.IndexFunc(k.networks, func(n cove.Network) bool { return n.Name == a.Network }); n >= 0 {
				n := &k.networks[n]
				k.cutOff(r, "bridge", n.NetworkInterface, id, n.Name, func(r network.Reality) string { return bridgeProblem(r, n) })
			}
		}
	}
}

// linkProblem says what keeps a container's link from its network; "" is nothing.
func linkProblem(r network.Reality, name string) string {
	i := slices.IndexFunc(r.Links, func(l network.Link) bool { return l.Name == name && !l.Loose })
	switch {
	case i < 0:
		return "missing"
	case !r.Links[i].Up:
		return "down"
	}
	return ""
}

// bridgeProblem says what keeps a bridge from its network's containers. One that is
// missing shows by their links.
func bridgeProblem(r network.Reality, n *cove.Network) string {
	for _, b := range r.Bridges {
		if b.Name != n.NetworkInterface {
			continue
		}
		if !b.Up {
			return "down"
		}
		for _, s := range n.Subnets {
			if s.Gateway.IsValid() && b.NetworkID != "" && !slices.Contains(b.Addresses, netip.PrefixFrom(s.Gateway, s.Subnet.Bits())) {
				return "without its address " + s.Gateway.String()
			}
		}
	}
	return ""
}

// cutOff suspects that a running container is cut off from a network.
func (k *survey) cutOff(r network.Reality, kind, object, id, name string, problem func(network.Reality) string) {
	what := problem(r)
	if what == "" || slices.ContainsFunc(k.suspicions, func(s suspicion) bool { return s.Kind == kind && s.Object == object }) {
		return
	}
	k.unconnected(Difference{Kind: kind, Object: object, Owner: id, Problem: what + ", and its container runs: it has no network " + name},
		func(r network.Reality) bool { return problem(r) != "" })
}

// unconnected suspects that a running container, the difference's owner, lacks
// something of its networks, as long as still says so; they are made anew for it.
func (k *survey) unconnected(d Difference, still func(network.Reality) bool) {
	k.suspicions = append(k.suspicions, suspicion{
		Difference: d,
		kind:       lock.Container, id: d.Owner, live: true,
		still: func() (bool, error) {
			if idle, err := k.idle(d.Owner); err != nil || idle {
				return false, err
			}
			r, err := k.e.networks.List(k.ctx)
			return still(r), err
		},
		repair: func() error { return k.reconnect(d.Owner) },
	})
}

// reconnect makes a running container's networks anew, as far as they are not
// what its record says. Its lock is held.
func (k *survey) reconnect(id string) error {
	now, err := k.now(id)
	if err != nil || now == nil {
		return err
	}
	return k.e.carryOut(k.ctx, &held{Container: *now, e: k.e})
}

// reaches tells whether a container is on a network that leads out of the host:
// only then its ports are published by the firewall.
func (k *survey) reaches(c *cove.Container) bool {
	return slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool {
		return slices.ContainsFunc(k.networks, func(n cove.Network) bool { return n.Name == a.Network && !n.Internal })
	})
}

// owner finds the only ID of ours with that beginning.
func (k *survey) owner(prefix string) string {
	found := ""
	for id := range k.traces {
		if strings.HasPrefix(id, prefix) {
			if found != "" {
				return ""
			}
			found = id
		}
	}
	return found
}

func (k *survey) elements(r network.Reality) {
	e := k.e
	list := func(r network.Reality) map[string][]string {
		ports := map[string][]string{}
		for _, el := range r.Elements {
			ports[el.ContainerID] = append(ports[el.ContainerID], fmt.Sprintf("%d/%s", el.HostPort, el.Protocol))
		}
		return ports
	}
	now := func() (map[string][]string, error) {
		r, err := e.networks.List(k.ctx)
		return list(r), err
	}
	ports := list(r)
	for id, list := range ports {
		if !k.traces[id] || k.running[id] {
			continue
		}
		slices.Sort(list)
		k.leftover("nft", strings.Join(slices.Compact(list), " "), id,
			func() (bool, error) { there, err := now(); return len(there[id]) > 0, err },
			func() error { return e.networks.RemoveElements(k.ctx, id) })
	}
	for id, c := range k.records {
		missing := lacking(c, ports[id])
		if e.lan != nil || !k.running[id] || !k.reaches(c) || len(missing) == 0 {
			continue
		}
		k.unconnected(Difference{Kind: "nft", Object: strings.Join(missing, " "), Owner: id, Problem: "published by a container that runs, and missing from the firewall"},
			func(r network.Reality) bool { return len(lacking(c, list(r)[id])) > 0 })
	}
}

// rules looks for those of networks that containers are on: firewalls of others
// are known to flush the whole rule set.
func (k *survey) rules(r network.Reality) {
	missing := func(r network.Reality, n *cove.Network) bool {
		return r.Ruled && !slices.ContainsFunc(r.Bridges, func(b network.Bridge) bool { return b.Name == n.NetworkInterface && b.Rules })
	}
	for i := range k.networks {
		n := &k.networks[i]
		if n.Driver == "" || !missing(r, n) { // "": its record is damaged
			continue
		}
		for id, c := range k.records {
			if !k.running[id] || !slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Network == n.Name && a.Pending == "" }) {
				continue
			}
			k.unconnected(Difference{Kind: "nft", Object: n.Name, Owner: id, Problem: "rules are missing from the firewall that the network needs, and a container is on it"},
				func(r network.Reality) bool { return missing(r, n) })
			break
		}
	}
}

// lacking gives the published ports of a container that are not among those in
// the firewall.
func lacking(c *cove.Container, there []string) (missing []string) {
	for _, p := range c.Ports {
		for i := range max(p.Range, 1) {
			if port := fmt.Sprintf("%d/%s", p.HostPort+i, p.Protocol); !slices.Contains(there, port) && !slices.Contains(missing, port) {
				missing = append(missing, port)
			}
		}
	}
	return missing
}

// bridges looks for those of networks that were this store's: a network's ID
// is made from its name, and its lock file tells the name. Another store may have a
// network of a name that this one has, with a bridge of its own.
func (k *survey) bridges(r network.Reality) {
	e := k.e
	for _, b := range r.Bridges {
		known := func(n cove.Network) bool { return n.ID == b.NetworkID }
		if b.NetworkID == "" || slices.ContainsFunc(k.networks, known) || slices.ContainsFunc(k.going, known) {
			continue
		}
		for _, o := range k.locks {
			if o.Kind != lock.Network || network.ID(o.ID) != b.NetworkID {
				continue
			}
			name := o.ID
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "bridge", Object: b.Name, Owner: b.NetworkID, Problem: "its network has no record"},
				kind:       lock.Network, id: name,
				still: func() (bool, error) {
					if !k.unknown(lock.Network, name) {
						return false, nil
					}
					r, err := e.networks.List(k.ctx)
					return slices.ContainsFunc(r.Bridges, func(now network.Bridge) bool {
						return now.Name == b.Name && now.NetworkID == b.NetworkID && !now.Used
					}), err
				},
				repair: func() error { return e.networks.RemoveBridge(k.ctx, b.Name) },
			})
		}
	}
}

// publishedNames looks for names of containers that do not run.
func (k *survey) publishedNames() {
	base := k.e.namesDir()
	list := func(dir string) []string {
		if noDirectory(dir) {
			k.suspicions = append(k.suspicions, suspicion{
				Difference: Difference{Kind: "name", Object: dir, Problem: "it is no directory, as all names are"},
				still:      func() (bool, error) { return noDirectory(dir), nil },
				repair:     func() error { return unix.Unlink(dir) },
			})
			return nil
		}
		names, err := dirNames(dir)
		k.fail(err)
		return names
	}
	for _, n := range list(base) {
		for _, name := range list(filepath.Join(base, n)) {
			for _, id := range list(filepath.Join(base, n, name)) {
				if !isID(id) || !k.traces[id] || k.running[id] {
					continue
				}
				p := filepath.Join(base, n, name, id)
				k.leftover("name", n+"/"+name, id,
					func() (bool, error) { return exists(p), nil },
					func() error {
						err := ownplace.Remove(p)
						_ = os.Remove(filepath.Dir(p)) // if it was the last one
						return err
					})
			}
		}
	}
}

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/event"
	"github.com/cove-engine/cove/internal/inspect"
	"github.com/cove-engine/cove/internal/lock"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/state"
)

// goingKey is the meta key of the networks that are being removed: their
// records are moved there, where nobody finds them any more, until the kernel
// has nothing of theirs. JSON list.
const goingKey = "networks-going"

// CreateNetwork records a network; the kernel gets its bridge with the first
// container. What n does not say is chosen: name, ID, interface, subnets and
// gateways. With ignore an existing network of that name is given as it is.
func (e *Engine) CreateNetwork(ctx context.Context, n cove.Network, ignore bool) (cove.Network, error) {
	if err := e.finishNetworks(ctx); err != nil {
		return n, err
	}
	pools, err := e.subnetPools()
	if err != nil {
		return n, err
	}
	host, err := e.networks.Occupied(ctx)
	if err != nil {
		return n, err
	}
	var made cove.Network
	existed := false
	err = e.update(func(tx state.Tx) error {
		// The function may run more than once.
		made, existed = cloneNetwork(n), false
		others, err := e.allNetworks(tx)
		if err != nil {
			return err
		}
		if made.Name == "" {
			// podman's way: the network is called what its bridge is.
			if made.NetworkInterface == "" {
				made.NetworkInterface = freeBridge(others, host)
			}
			made.Name = made.NetworkInterface
		}
		for _, o := range others {
			if o.Name != made.Name {
				continue
			}
			if ignore {
				made, existed = o, true
				return nil
			}
			return cove.E("", "", cove.Exists, fmt.Errorf("network name %s already used: network already exists", o.Name))
		}
		made.Created = time.Now()
		if err := network.Complete(&made, others, host, pools); err != nil {
			return err
		}
		if err := tx.Claim(state.Networks, made.Name, made.ID); err != nil {
			return err
		}
		return tx.Put(state.Networks, made.ID, &made)
	})
	if err != nil {
		return n, err
	}
	if !existed {
		e.networkEvent(made, "create")
	}
	return made, nil
}

// freeBridge is a bridge's name that is no network's name either.
func freeBridge(others []cove.Network, host network.Occupied) string {
	host.Links = slices.Clone(host.Links)
	for _, o := range others {
		host.Links = append(host.Links, o.Name)
	}
	return network.FreeInterface(others, host)
}

func cloneNetwork(n cove.Network) cove.Network {
	n.Subnets, n.Routes, n.DNSServers = slices.Clone(n.Subnets), slices.Clone(n.Routes), slices.Clone(n.DNSServers)
	n.Labels, n.Options, n.IPAM = maps.Clone(n.Labels), maps.Clone(n.Options), maps.Clone(n.IPAM)
	return n
}

// subnetPools are containers.conf's default_subnet_pools.
func (e *Engine) subnetPools() ([]network.Pool, error) {
	configured := e.conf.File.Network.DefaultSubnetPools
	if len(configured) == 0 {
		return network.DefaultPools(), nil
	}
	pools := make([]network.Pool, 0, len(configured))
	for _, c := range configured {
		if c.Base == nil {
			continue
		}
		p, err := netip.ParsePrefix(c.Base.String())
		if err != nil {
			return nil, cove.E("read containers.conf", "default_subnet_pools", cove.Invalid, err)
		}
		pools = append(pools, network.Pool{Base: p, Size: c.Size})
	}
	return pools, nil
}

func (e *Engine) networkEvent(n cove.Network, status string) {
	_ = e.events.Write(cove.Event{
		ID: n.ID, Network: n.Name, Status: status, Time: time.Now(), Type: "network",
		Attributes: map[string]string{"driver": n.Driver},
	})
}

// allNetworks reads every network, the built-in one too, by name. Of one whose
// record is damaged it gives ID and name.
func (e *Engine) allNetworks(tx state.Tx) ([]cove.Network, error) {
	all := []cove.Network{e.builtinNetwork()}
	err := tx.List(state.Networks, func(id string, raw []byte) error {
		n, err := decodeNetwork(tx, id, raw)
		if err != nil && !errors.Is(err, state.ErrDamaged) {
			return err
		}
		if n.Name == all[0].Name { // the built-in one, changed
			all[0] = n
		} else {
			all = append(all, n)
		}
		return nil
	})
	slices.SortFunc(all, func(a, b cove.Network) int { return strings.Compare(a.Name, b.Name) })
	return all, err
}

// findNetwork reads a network by name, ID or an unambiguous beginning of one.
func (e *Engine) findNetwork(tx state.Tx, nameOrID string) (cove.Network, error) {
	n, err := e.getNetwork(tx, nameOrID)
	if b := e.builtinNetwork(); cove.Is(err, cove.NotFound) && nameOrID != "" && strings.HasPrefix(b.ID, nameOrID) {
		return b, nil
	}
	return n, err
}

// networkUsers gives, by network's name, the IDs of the containers on it.
func networkUsers(tx state.Tx) (map[string][]string, error) {
	users := map[string][]string{}
	err := tx.List(state.Containers, func(id string, raw []byte) error {
		c, err := decodeContainer(id, raw)
		if err != nil {
			return err
		}
		for _, a := range c.Attachments {
			if !slices.Contains(users[a.Network], id) {
				users[a.Network] = append(users[a.Network], id)
			}
		}
		return nil
	})
	return users, err
}

// usersOf are a network's users; a container that has never been started may
// know it by its ID.
func usersOf(users map[string][]string, n cove.Network) []string {
	ids := users[n.Name]
	for known, more := range users {
		if known != n.Name && len(known) >= 12 && strings.HasPrefix(n.ID, known) {
			ids = slices.Concat(ids, more)
		}
	}
	return ids
}

// Networks gives the networks that the filters choose, by name.
func (e *Engine) Networks(ctx context.Context, filters map[string][]string) ([]cove.Network, error) {
	var all []cove.Network
	var users map[string][]string
	err := e.store.View(func(tx state.Tx) (err error) {
		if all, err = e.allNetworks(tx); err == nil && len(filters["dangling"]) > 0 {
			users, err = e.presentUsers(tx)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	match, err := networkMatcher(filters, func(n *cove.Network) bool {
		return n.Name == e.defaultNetwork() || len(usersOf(users, *n)) > 0 // which nobody has to use to keep it
	})
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(n cove.Network) bool { return !match(&n) }), nil
}

// presentUsers is networkUsers without the containers that are gone already.
func (e *Engine) presentUsers(tx state.Tx) (map[string][]string, error) {
	users, err := networkUsers(tx)
	for _, gone := range e.removedMarks() {
		for name, ids := range users {
			users[name] = slices.DeleteFunc(ids, func(id string) bool { return id == gone })
		}
	}
	return users, err
}

// networkMatcher compiles podman's network filters: values of one key are
// alternatives, but labels must all be there; all keys must match.
func networkMatcher(filters map[string][]string, used func(*cove.Network) bool) (func(*cove.Network) bool, error) {
	var tests []func(*cove.Network) bool
	for key, values := range filters {
		var test func(*cove.Network) bool
		switch strings.ToLower(key) {
		case "name":
			exprs, err := regexps(key, values)
			if err != nil {
				return nil, err
			}
			test = func(n *cove.Network) bool { return matchesAny(exprs, n.Name) }
		case "driver":
			test = func(n *cove.Network) bool { return slices.Contains(values, n.Driver) }
		case "id":
			test = func(n *cove.Network) bool {
				return slices.ContainsFunc(values, func(v string) bool { return strings.HasPrefix(n.ID, v) })
			}
		case "label":
			test = func(n *cove.Network) bool { return hasLabels(values, n.Labels) }
		case "label!":
			test = func(n *cove.Network) bool { return lacksLabels(values, n.Labels) }
		case "until":
			at, err := momentFilter(key, values)
			if err != nil {
				return nil, err
			}
			test = func(n *cove.Network) bool { return n.Created.Before(at) }
		case "dangling":
			want, err := boolFilter(key, values)
			if err != nil {
				return nil, err
			}
			test = func(n *cove.Network) bool { return used(n) != want }
		default:
			return nil, cove.E("", "", cove.Invalid, fmt.Errorf("invalid filter %q", key))
		}
		tests = append(tests, test)
	}
	return func(n *cove.Network) bool {
		for _, test := range tests {
			if !test(n) {
				return false
			}
		}
		return true
	}, nil
}

// regexps compiles the values of a filter that podman takes as regular
// expressions.
func regexps(key string, values []string) ([]*regexp.Regexp, error) {
	out := make([]*regexp.Regexp, 0, len(values))
	for _, v := range values {
		re, err := regexp.Compile(v)
		if err != nil {
			return nil, badFilter(key, v, "is not a regular expression")
		}
		out = append(out, re)
	}
	return out, nil
}

func matchesAny(exprs []*regexp.Regexp, s string) bool {
	return slices.ContainsFunc(exprs, func(re *regexp.Regexp) bool { return re.MatchString(s) })
}

// hasLabels reports whether every KEY or KEY=VALUE is among the labels. A
// star in a key stands for anything.
func hasLabels(want []string, labels map[string]string) bool {
	return !slices.ContainsFunc(want, func(w string) bool { return !hasLabel(w, labels) })
}

// lacksLabels reports whether none of them is there.
func lacksLabels(unwanted []string, labels map[string]string) bool {
	return !slices.ContainsFunc(unwanted, func(w string) bool { return hasLabel(w, labels) })
}

func hasLabel(want string, labels map[string]string) bool {
	key, value, _ := strings.Cut(want, "=")
	for k, v := range labels {
		if (k == key || starMatch(key, k)) && (value == "" || v == value) {
			return true
		}
	}
	return false
}

// starMatch matches a pattern in which stars stand for anything.
func starMatch(pattern, s string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return false
	}
	for i, p := range parts {
		switch {
		case i == 0:
			if !strings.HasPrefix(s, p) {
				return false
			}
			s = s[len(p):]
		case i == len(parts)-1:
			return strings.HasSuffix(s, p)
		default:
			at := strings.Index(s, p)
			if at < 0 {
				return false
			}
			s = s[at+len(p):]
		}
	}
	return true
}

// momentFilter reads the one value of a filter that is a moment.
func momentFilter(key string, values []string) (time.Time, error) {
	if len(values) != 1 {
		return time.Time{}, cove.E("", "", cove.Invalid, fmt.Errorf("specify exactly one timestamp for %s", key))
	}
	return event.ParseTime(values[0], time.Now())
}

// boolFilter reads the one value of a filter that is true or false.
func boolFilter(key string, values []string) (bool, error) {
	if len(values) != 1 {
		return false, cove.E("", "", cove.Invalid, fmt.Errorf("got more than one value for filter key %q", key))
	}
	switch values[0] {
	case "true", "1":
		return true, nil
	case "false", "0":
		return false, nil
	}
	return false, badFilter(key, values[0], "is not true or false")
}

// Network describes a network, with the running containers on it.
func (e *Engine) Network(ctx context.Context, nameOrID string) (inspect.Network, error) {
	out := inspect.Network{Containers: map[string]inspect.NetworkContainer{}}
	var on []*cove.Container
	err := e.store.View(func(tx state.Tx) (err error) {
		if out.Network, err = e.findNetwork(tx, nameOrID); err != nil {
			return err
		}
		on = nil
		return readable(tx, func(c *cove.Container) {
			if attachmentTo(c, out.Name) != nil {
				on = append(on, c)
			}
		})
	})
	if err != nil {
		return out, err
	}
	for _, c := range on {
		if e.gone(c.ID) {
			continue
		}
		now, err := e.look(c)
		if err != nil {
			return out, err
		}
		if now.Run.PID != 0 {
			out.Containers[c.ID] = networkContainer(c, out.Name)
		}
	}
	return out, nil
}

func attachmentTo(c *cove.Container, name string) *cove.NetworkAttachment {
	i := slices.IndexFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Network == name })
	if i < 0 {
		return nil
	}
	return &c.Attachments[i]
}

func networkContainer(c *cove.Container, name string) inspect.NetworkContainer {
	out := inspect.NetworkContainer{Name: c.Name, Interfaces: map[string]inspect.NetworkInterface{}}
	for _, a := range c.Attachments {
		if a.Network != name {
			continue
		}
		i := inspect.NetworkInterface{MAC: a.MAC}
		for _, p := range a.Addresses {
			s := inspect.InterfaceAddress{IPNet: p.String()}
			for _, gw := range a.Gateways {
				if p.Masked().Contains(gw) {
					s.Gateway = gw.String()
				}
			}
			i.Subnets = append(i.Subnets, s)
		}
		out.Interfaces[a.Interface] = i
	}
	return out
}

// RemoveNetwork removes a network and gives its name. Of o only Force (with
// the containers on it), Timeout and Warn count.
func (e *Engine) RemoveNetwork(ctx context.Context, nameOrID string, o RemoveOptions) (string, error) {
	if err := e.finishNetworks(ctx); err != nil {
		return "", err
	}
	var n cove.Network
	var users []string
	err := e.store.View(func(tx state.Tx) (err error) {
		if n, err = e.findNetwork(tx, nameOrID); err != nil && !(o.Force && errors.Is(err, state.ErrDamaged)) {
			return err
		}
		all, err := e.presentUsers(tx)
		users = usersOf(all, n)
		return err
	})
	if err != nil {
		return "", err
	}
	if n.Name == e.defaultNetwork() && n.Driver != "" { // of a damaged one the built-in comes back
		return "", cove.E("", "", cove.Invalid, fmt.Errorf("default network %s cannot be removed", n.Name))
	}
	if len(users) > 0 && !o.Force {
		return "", networkInUse(n)
	}
	for _, id := range users {
		err := e.Remove(ctx, id, RemoveOptions{Force: true, Timeout: o.Timeout, Warn: o.Warn})
		if err != nil && !cove.Is(err, cove.NotFound) {
			return "", err
		}
	}
	return n.Name, e.dropNetwork(ctx, n, o.Force)
}

// removeBridges removes what the kernel has of a network whose record is damaged, by
// its ID. No container is on it, and the network's lock is held.
func (e *Engine) removeBridges(ctx context.Context, id string) error {
	r, err := e.networks.List(ctx)
	errs := []error{err}
	for _, b := range r.Bridges {
		if b.NetworkID == id && !b.Used {
			errs = append(errs, e.networks.RemoveBridge(ctx, b.Name))
		}
	}
	return errors.Join(errs...)
}

func networkInUse(n cove.Network) error {
	return cove.E("", "", cove.InUse, fmt.Errorf("%q has associated containers with it. Use -f to forcibly delete containers and pods: network is being used", n.Name))
}

// dropNetwork removes a network that no container is on. First its record is
// put aside, so that no container can be put on it any more; then the kernel's
// part goes, last what was put aside. damaged tells to do so if its record cannot be
// read.
func (e *Engine) dropNetwork(ctx context.Context, n cove.Network, damaged bool) error {
	if err := e.prepareHome(); err != nil {
		return err
	}
	l, err := e.locks.Lock(ctx, lock.Network, n.Name)
	if err != nil {
		return err
	}
	defer l.Unlock()
	err = e.update(func(tx state.Tx) error {
		var err error
		name := n.Name
		if n, err = e.getNetwork(tx, name); err != nil && !(damaged && errors.Is(err, state.ErrDamaged)) {
			if cove.Is(err, cove.NotFound) {
				_ = e.locks.Forget(lock.Network, name) // it was made by asking for it
			}
			return err
		}
		users, err := networkUsers(tx)
		if err != nil {
			return err
		}
		if len(usersOf(users, n)) > 0 {
			return networkInUse(n)
		}
		if err := tx.Release(state.Networks, n.Name); err != nil {
			return err
		}
		if err := tx.Unlease(n.Name, ""); err != nil {
			return err
		}
		if err := tx.Delete(state.Networks, n.ID); err != nil {
			return err
		}
		going, err := goingNetworks(tx)
		if err != nil {
			return err
		}
		return setGoing(tx, append(going, n))
	})
	if err != nil {
		return err
	}
	if err := e.finishNetwork(ctx, n); err != nil {
		return err
	}
	e.networkEvent(n, "remove")
	return nil
}

// goingNetworks reads the networks that are being removed.
func goingNetworks(tx state.Tx) ([]cove.Network, error) {
	raw, err := tx.Meta(goingKey)
	if err != nil || raw == nil {
		return nil, err
	}
	var all []cove.Network
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, cove.E("read record", goingKey, cove.Internal, err)
	}
	return all, nil
}

func setGoing(tx state.Tx, all []cove.Network) error {
	if len(all) == 0 {
		return tx.SetMeta(goingKey, nil)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return cove.E("write record", goingKey, cove.Internal, err)
	}
	return tx.SetMeta(goingKey, raw)
}

// finishNetwork takes down what the kernel and the run root have of a network
// whose record was put aside. Its lock is held.
func (e *Engine) finishNetwork(ctx context.Context, n cove.Network) error {
	remove := func() error { return e.networks.RemoveNetwork(ctx, n) }
	if n.NetworkInterface == "" { // its record was damaged
		remove = func() error { return e.removeBridges(ctx, n.ID) }
	}
	if err := remove(); err != nil {
		return err
	}
	if err := ownplace.Remove(filepath.Join(e.namesDir(), n.Name)); err != nil {
		return cove.E("remove network", n.Name, fileKind(err), err)
	}
	// Before the record, as with containers.
	if err := e.locks.Forget(lock.Network, n.Name); err != nil {
		return err
	}
	return e.update(func(tx state.Tx) error {
		going, err := goingNetworks(tx)
		if err != nil {
			return err
		}
		if err := e.noteRemoved(tx, lock.Network, n.Name); err != nil {
			return err
		}
		return setGoing(tx, slices.DeleteFunc(going, func(g cove.Network) bool { return g.ID == n.ID }))
	})
}

// finishNetworks completes removals of networks that were cut short.
func (e *Engine) finishNetworks(ctx context.Context) error {
	read := func() (going []cove.Network, err error) {
		err = e.store.View(func(tx state.Tx) error {
			going, err = goingNetworks(tx)
			return err
		})
		return going, err
	}
	going, err := read()
	for _, n := range going {
		l, lerr := e.locks.Lock(ctx, lock.Network, n.Name)
		if lerr != nil {
			err = errors.Join(err, lerr)
			continue
		}
		// Once more under the lock: its remover may just have ended.
		still, rerr := read()
		if rerr == nil && slices.ContainsFunc(still, func(s cove.Network) bool { return s.ID == n.ID }) {
			rerr = e.finishNetwork(ctx, n)
		} else if rerr == nil {
			rerr = e.forgetNetwork(n.Name)
		}
		err = errors.Join(err, rerr, l.Unlock())
	}
	return err
}

// forgetNetwork gives up a lock that was asked for too late, unless there is
// a network of that name again.
func (e *Engine) forgetNetwork(name string) error {
	return e.store.View(func(tx state.Tx) error {
		_, err := e.getNetwork(tx, name)
		if cove.Is(err, cove.NotFound) {
			return e.locks.Forget(lock.Network, name)
		}
		return err
	})
}

// PruneNetworks removes the networks that no container is on and gives their
// names. The default network stays.
func (e *Engine) PruneNetworks(ctx context.Context, filters map[string][]string) ([]string, error) {
	all, err := e.Networks(ctx, filters)
	if err != nil {
		return nil, err
	}
	var names []string
	errs := []error{e.finishNetworks(ctx)}
	for _, n := range all {
		if n.Name == e.defaultNetwork() {
			continue
		}
		switch err := e.dropNetwork(ctx, n, false); {
		case err == nil:
			names = append(names, n.Name)
		case !cove.Is(err, cove.InUse) && !cove.Is(err, cove.NotFound):
			errs = append(errs, err)
		}
	}
	return names, errors.Join(errs...)
}

package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/rootfs"
	"github.com/cove-engine/cove/internal/state"
)

// List gives the containers that match, oldest first. It waits for no
// container's lock.
func (e *Engine) List(ctx context.Context, o ListOptions) ([]Container, error) {
	match, err := e.matcher(o.Filters)
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, id := range e.removedMarks() {
		gone[id] = true
	}
	var records []rawRecord
	err = e.store.View(func(tx state.Tx) error {
		records = nil
		return tx.List(state.Containers, func(id string, raw []byte) error {
			if !gone[id] {
				records = append(records, rawRecord{id, bytes.Clone(raw)})
			}
			return nil
		})
	})
	if err != nil {
		return nil, err
	}
	looked := e.lookAtAll(records)
	if o.Settle {
		looked = e.settleLost(ctx, looked)
	}
	joinNetworks(looked)
	for _, id := range e.removedMarks() {
		gone[id] = true // since the records were read
	}
	all := o.All || o.Last > 0 || o.Latest || len(o.Filters["status"]) > 0
	var chosen []*Container // a Container is too large to be moved about
	for i := range looked {
		now := &looked[i]
		ghost := now.Status == cove.Created && now.cutShort() && !procfs.Lives(now.StartedBy.PID, now.StartedBy.Start)
		if (ghost || pending(&now.Container) || now.leftFrozen()) && e.healAnd(ctx, now, leaveDue) {
			again, err := e.recorded(now.ID)
			if err == nil && again == nil {
				continue // it has gone with that
			}
			if err == nil {
				again.joined = now.joined
				now = again
			}
		}
		if !all && now.Status != cove.Running && !now.livesUnread() || !match(now) || now.Status == cove.Created && gone[now.ID] {
			continue
		}
		chosen = append(chosen, now)
	}
	slices.SortStableFunc(chosen, func(a, b *Container) int { return a.Created.Compare(b.Created) })
	last := o.Last
	if o.Latest {
		last = 1
	}
	if last > 0 && len(chosen) > last {
		chosen = chosen[len(chosen)-last:]
	}
	var out []Container
	for _, c := range chosen {
		out = append(out, *c)
	}
	if o.Size {
		for i := range out {
			e.measure(&out[i])
		}
	}
	return out, nil
}

// rawRecord is a container's record as the store holds it.
type rawRecord struct {
	id  string
	raw []byte
}

// lookAtAll looks at many containers, on all processors: one is a tenth of a
// millisecond or two.
func (e *Engine) lookAtAll(records []rawRecord) []Container {
	out := make([]Container, len(records))
	var next atomic.Int64
	look := func() {
		for i := int(next.Add(1)) - 1; i < len(records); i = int(next.Add(1)) - 1 {
			c, err := decodeContainer(records[i].id, records[i].raw)
			if err == nil {
				out[i], err = e.look(c)
			}
			if err != nil {
				out[i] = e.unread(records[i].id, c, err)
			}
		}
	}
	const each = 16 // so many are worth a thread
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(records)/each) - 1 {
		wg.Go(look)
	}
	look()
	wg.Wait()
	return out
}

// Container gives one container as it is now.
func (e *Engine) Container(ctx context.Context, nameOrID string, size bool) (Container, error) {
	c, err := e.find(nameOrID)
	if err != nil {
		return Container{}, err
	}
	now, err := e.look(c)
	if err == nil && e.heal(ctx, &now) { // once: some of it may be left for later
		if c, err = e.find(c.ID); err != nil {
			return Container{}, err
		}
		now, err = e.look(c)
	}
	if err == nil && size {
		e.measure(&now)
	}
	now.joined = networkOwner(&now, func(id string) *Container {
		other, err := e.find(id)
		if err != nil {
			return nil
		}
		there, err := e.look(other)
		if err != nil {
			return nil
		}
		return &there
	})
	now.NetworkMode = e.networkMode(c)
	now.appArmor = func() string { return e.appArmorProfile(c) }
	return now, err
}

// joinNetworks tells those of all containers that are in another's network
// whose it is.
func joinNetworks(all []Container) {
	var byID map[string]*Container
	for i := range all {
		all[i].joined = networkOwner(&all[i], func(id string) *Container {
			if byID == nil {
				byID = map[string]*Container{}
				for j := range all {
					byID[all[j].ID] = &all[j]
				}
			}
			return byID[id]
		})
	}
}

// joinsMax is how long a row of containers may be of which each is in the network of
// the one before: nobody's is, but damaged records may lead round in a circle.
const joinsMax = 1000

// networkOwner is the container whose network c is in, nil if it has its own or find
// knows the other no more. That one may be in another's, which was there before
// it, and so on.
func networkOwner(c *Container, find func(id string) *Container) (owner *Container) {
	for range joinsMax {
		if c == nil {
			break
		}
		id, ok := strings.CutPrefix(c.Spec.Network, "container:")
		if !ok {
			return owner
		}
		c = find(id)
		owner = c
	}
	return nil
}

// measure adds up the bytes of the writable layer and of the layers below it.
func (e *Engine) measure(c *Container) {
	c.SizeRw = treeSize(filepath.Join(c.Dir, "diff"))
	c.SizeRootFs = c.SizeRw
	for _, dir := range c.layers() {
		c.SizeRootFs += treeSize(dir)
	}
}

// treeSize is what a directory of ours holds; 0 when it cannot be read.
func treeSize(dir string) int64 {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	n, err := rootfs.Size(fd)
	if err != nil {
		return 0
	}
	return n
}

// matcher compiles podman's container filters, podman-ps(1) --filter: values
// of one key are alternatives, all keys must match.
func (e *Engine) matcher(filters map[string][]string) (func(*Container) bool, error) {
	var tests []func(*Container) bool
	for key, values := range filters {
		var any []func(*Container) bool
		for _, v := range values {
			test, err := e.filterTest(key, v)
			if err != nil {
				return nil, err
			}
			any = append(any, test)
		}
		all := key == "label" || key == "label!" // labels must all be there
		tests = append(tests, func(c *Container) bool {
			for _, test := range any {
				if test(c) != all {
					return !all
				}
			}
			return all
		})
	}
	return func(c *Container) bool {
		for _, test := range tests {
			if !test(c) {
				return false
			}
		}
		return true
	}, nil
}

func (e *Engine) filterTest(key, v string) (func(*Container) bool, error) {
	switch key {
	case "id":
		return func(c *Container) bool { return strings.HasPrefix(c.ID, v) }, nil
	case "name":
		// Docker's expressions have a slash that is in no name: ^/web$.
		re, err := regexp.Compile(strings.ReplaceAll(v, "/", ""))
		if err != nil {
			return nil, badFilter(key, v, "is not a regular expression")
		}
		return func(c *Container) bool { return re.MatchString(c.Name) }, nil
	case "status":
		if v == "stopped" {
			v = "exited"
		}
		if !slices.Contains([]string{"created", "running", "paused", "stopping", "exited", "removing", "unknown", "configured", "initialized"}, v) {
			return nil, badFilter(key, v, "is not a status")
		}
		return func(c *Container) bool { return string(c.Status) == v }, nil
	case "label", "label!":
		k, want, has := strings.Cut(v, "=")
		test := func(c *Container) bool {
			got, ok := labels(&c.Container)[k]
			return ok && (!has || got == want)
		}
		if key == "label!" {
			return func(c *Container) bool { return !test(c) }, nil
		}
		return test, nil
	case "exited":
		code, err := strconv.Atoi(v)
		if err != nil {
			return nil, badFilter(key, v, "is not a number")
		}
		return func(c *Container) bool { return c.Status == cove.Exited && c.Run.ExitCode == code }, nil
	case "ancestor":
		return func(c *Container) bool {
			name, _, _ := strings.Cut(c.Image.Name, "@")
			repo := name[:max(strings.LastIndexByte(name, ':'), 0)]
			return strings.HasPrefix(c.Image.ID, strings.TrimPrefix(v, "sha256:")) || c.Image.Name == v || c.Spec.Image == v ||
				strings.HasSuffix("/"+name, "/"+v) || strings.HasSuffix("/"+repo, "/"+v)
		}, nil
	case "volume":
		return func(c *Container) bool {
			return slices.ContainsFunc(c.Mounts, func(m cove.Mount) bool {
				return m.Source == v || m.Destination == v || m.Type == "volume" && e.volumeData(m.Source) == v
			})
		}, nil
	case "network":
		return func(c *Container) bool {
			return c.Spec.Network == v || slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return a.Network == v })
		}, nil
	case "health":
		return func(c *Container) bool {
			status := "none"
			if c.Run.Health != nil {
				status = c.Run.Health.Status
			}
			return status == v
		}, nil
	case "restart-policy":
		if !slices.Contains([]string{"no", "always", "on-failure", "unless-stopped"}, v) {
			return nil, badFilter(key, v, "is not a restart policy")
		}
		return func(c *Container) bool { return cmp.Or(c.Spec.Restart.Name, "no") == v }, nil
	case "should-start-on-boot":
		want, err := strconv.ParseBool(v)
		if err != nil {
			return nil, badFilter(key, v, "is neither true nor false")
		}
		return func(c *Container) bool {
			p := c.Spec.Restart.Name
			return want == (p == "always" || p == "unless-stopped" && c.Desired == cove.DesireRun)
		}, nil
	case "before", "since", "after":
		other, err := e.find(v)
		if err != nil {
			return nil, err
		}
		if key == "before" {
			return func(c *Container) bool { return c.Created.Before(other.Created) }, nil
		}
		return func(c *Container) bool { return c.Created.After(other.Created) }, nil
	case "until":
		at, err := parseMoment(v)
		if err != nil {
			return nil, badFilter(key, v, "is neither a time nor a duration")
		}
		return func(c *Container) bool { return c.Created.Before(at) }, nil
	case "command":
		return func(c *Container) bool { return len(c.Spec.Command) > 0 && c.Spec.Command[0] == v }, nil
	case "pod":
		return nil, cove.E("filter", key, cove.Unsupported, errors.New("pods are not supported by cove yet"))
	}
	return nil, cove.E("", "", cove.Invalid, fmt.Errorf("%s is an invalid filter", key))
}

func badFilter(key, v, why string) error {
	return cove.E("filter", key, cove.Invalid, fmt.Errorf("%q %s", v, why))
}

// parseMoment reads a time: RFC 3339, seconds since 1970, or how long ago.
func parseMoment(s string) (time.Time, error) {
	if d, err := time.ParseDuration(s); err == nil {
		return time.Now().Add(-d), nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.Unix(n, 0), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05", "2006-01-02"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, errors.New("not a time")
}

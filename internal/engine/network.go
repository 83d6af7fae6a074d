package engine

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/ownplace"
	"github.com/cove-engine/cove/internal/ownthread"
	"github.com/cove-engine/cove/internal/procfs"
	"github.com/cove-engine/cove/internal/state"
)

// podmanSubnet is the library's default for the default network. podman gives
// addresses out of it by a ledger of its own, so cove, unless somebody has
// configured another one, keeps to coveSubnet.
const (
	podmanSubnet = "10.88.0.0/16"
	coveSubnet   = "10.87.0.0/16"
)

// networkMode is the container's network mode with the defaults applied.
func (e *Engine) networkMode(c *cove.Container) string {
	mode := c.Spec.Network
	if mode == "" || mode == "default" {
		mode = e.configuredFor(c).Network
	}
	switch mode {
	case "", "private", "default":
		if e.conf.Rootless {
			return e.userMode()
		}
		return "bridge"
	}
	return mode
}

// networks settles which networks the container is on.
func (d *draft) networks() error {
	c, e := d.c, d.e
	mode := e.networkMode(c)
	kind, _, _ := strings.Cut(mode, ":")
	if err := e.checkUserNetwork(c, mode); err != nil {
		return err
	}
	if kind != "bridge" {
		if len(c.Attachments) > 0 {
			return cove.E("", "", cove.Invalid, fmt.Errorf("networks and static ip/mac address can only be used with Bridge mode networking, not %q", mode))
		}
		if path, ok := strings.CutPrefix(mode, "ns:"); ok {
			if err := unix.Access(path, unix.F_OK); err != nil {
				return cove.E("find network namespace", path, cove.Invalid, err)
			}
		}
		if len(c.Ports) > 0 && (kind == "none" || kind == "host" || kind == "container") {
			d.warnings = append(d.warnings, "Port mappings are discarded because the container has network mode "+kind)
			c.Ports = nil
		}
		return nil
	}
	d.warnings = append(d.warnings, e.unused("networks")...)
	if len(c.Attachments) == 0 {
		c.Attachments = []cove.NetworkAttachment{{}}
	}
	for i := range c.Attachments {
		a := &c.Attachments[i]
		if a.Network == "" {
			a.Network = e.defaultNetwork()
		}
		if a.Interface == "" {
			a.Interface = fmt.Sprintf("eth%d", i)
		}
		a.Link = i
		if a.MAC == "" {
			a.MAC = randomMAC()
		}
	}
	return nil
}

func hasStaticIP(c *cove.Container) bool {
	return slices.ContainsFunc(c.Attachments, func(a cove.NetworkAttachment) bool { return len(a.StaticIPs) > 0 })
}

// randomMAC is a locally administered unicast address, IEEE 802.
func randomMAC() string {
	b := make(net.HardwareAddr, 6)
	_, _ = rand.Read(b)
	b[0] = b[0]&^1 | 2
	return b.String()
}

func (e *Engine) defaultNetwork() string {
	if n := e.conf.File.Network.DefaultNetwork; n != "" {
		return n
	}
	return "podman"
}

// builtinNetwork is the default network, which needs no record until somebody
// changes it.
func (e *Engine) builtinNetwork() cove.Network {
	subnet := e.conf.File.Network.DefaultSubnet
	if subnet == "" || subnet == podmanSubnet {
		subnet = coveSubnet
	}
	p, err := netip.ParsePrefix(subnet)
	if err != nil {
		p = netip.MustParsePrefix(coveSubnet)
	}
	name := e.defaultNetwork()
	return cove.Network{
		Name: name, ID: network.ID(name), Driver: "bridge", NetworkInterface: network.DefaultBridge,
		Created: time.Now(), // as podman says of one that has no file
		Subnets: []cove.Subnet{{Subnet: p.Masked(), Gateway: p.Masked().Addr().Next()}},
		IPAM:    map[string]string{"driver": "host-local"},
	}
}

// getNetwork reads a network's record; the default one is always there. Of a damaged
// one it gives, with the error that says so, ID and name.
func (e *Engine) getNetwork(tx state.Tx, name string) (cove.Network, error) {
	var n cove.Network
	id, err := tx.Find(state.Networks, name)
	if err == nil {
		if err = tx.Get(state.Networks, id, &n); errors.Is(err, state.ErrDamaged) {
			return stubNetwork(tx, id), err
		}
		return n, err
	}
	if b := e.builtinNetwork(); cove.Is(err, cove.NotFound) && (name == b.Name || name == b.ID) {
		return b, nil
	}
	return n, cove.E("", "", cove.KindOf(err), fmt.Errorf("unable to find network with name or ID %s: network not found", name))
}

// newNetNS makes a network namespace and gives a descriptor of it, which is
// all that keeps it.
func newNetNS() (int, error) {
	fd, err := ownthread.Run(func() (int, error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return -1, err
		}
		return unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return -1, cove.E("make network namespace", "", cove.Internal, err)
	}
	return fd, nil
}

// request asks for the container's namespace to be joined to its networks.
func request(c *cove.Container, netns int, networks []cove.Network) network.Request {
	r := network.Request{ContainerID: c.ID, Netns: netns, Ports: c.Ports}
	for i, n := range networks {
		r.Networks = append(r.Networks, network.Membership{Network: n, Attachment: c.Attachments[i]})
	}
	return r
}

// networksOf reads the records of the container's networks.
func (e *Engine) networksOf(tx state.Tx, c *cove.Container) ([]cove.Network, error) {
	var all []cove.Network
	for _, a := range c.Attachments {
		n, err := e.getNetwork(tx, a.Network)
		if err != nil {
			return nil, err
		}
		all = append(all, n)
	}
	return all, nil
}

// namesDir is where the containers' resolvers find names: a directory per
// network, in it one per name, in it a file per container with its addresses.
// It is of no use after a boot, and all the same not below the run root: what
// is swept away there would not be missed before a name is not found.
func (e *Engine) namesDir() string { return filepath.Join(e.conf.Home(), "names") }

// namesOf are the names by which the container is found on a network.
func namesOf(c *cove.Container, a *cove.NetworkAttachment) []string {
	names := append([]string{c.Name, c.ID[:cove.ShortIDLength]}, a.Aliases...)
	if c.Spec.Hostname != "" {
		names = append(names, c.Spec.Hostname)
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !findable(name) })
	slices.Sort(names)
	return slices.Compact(names)
}

// findable reports whether a name can be asked for, RFC 1035's with the
// underscore of containers' names. Aliases may be anything, as podman's; others as a
// path would lead out of the network's directory.
func findable(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, nameCharacters) != "" {
			return false
		}
	}
	return len(name) <= 253
}

const nameCharacters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_"

// publishNames makes the container findable, and gives the files that do it.
func (e *Engine) publishNames(c *cove.Container, networks []cove.Network) ([]string, error) {
	var files []string
	for _, p := range e.published(c, networks) {
		if err := e.publish(p); err != nil {
			return files, cove.E("publish name", p.name, fileKind(err), err)
		}
		files = append(files, p.file)
	}
	return files, nil
}

// publication is a name of a container on a network, and the file that says so.
type publication struct{ network, name, file, lines string }

// there tells whether its file says it.
func (p publication) there() bool {
	text, err := procfs.Read(p.file, len(p.lines)+1)
	return err == nil && string(text) == p.lines
}

// published are those of a container that runs.
func (e *Engine) published(c *cove.Container, networks []cove.Network) (all []publication) {
	for i, n := range networks {
		if !n.DNSEnabled {
			continue
		}
		var lines strings.Builder
		for _, p := range c.Attachments[i].Addresses {
			lines.WriteString(p.Addr().String() + "\n")
		}
		for _, name := range namesOf(c, &c.Attachments[i]) {
			all = append(all, publication{n.Name, name, filepath.Join(e.namesDir(), n.Name, strings.ToLower(name), c.ID), lines.String()})
		}
	}
	return all
}

// publish writes a name's file, whose directory the last one of that name may
// just be taking along, and which something else may be in the place of.
func (e *Engine) publish(p publication) (err error) {
	dir := filepath.Dir(p.file)
	for range 8 {
		if err = os.MkdirAll(dir, 0o755); err == nil {
			err = replaceFile(p.file, p.lines)
		}
		if err == nil {
			return nil
		}
		for _, above := range []string{e.namesDir(), filepath.Dir(dir), dir} {
			if noDirectory(above) {
				_ = unix.Unlink(above)
			}
		}
		_ = ownplace.Clear(p.file)
	}
	return err
}

// forgetNames takes the files away that publishNames has made.
func (e *Engine) forgetNames(c *cove.Container) error {
	var errs []error
	for i := range c.Attachments {
		for _, name := range namesOf(c, &c.Attachments[i]) {
			dir := filepath.Join(e.namesDir(), c.Attachments[i].Network, strings.ToLower(name))
			errs = append(errs, ownplace.Remove(filepath.Join(dir, c.ID)))
			_ = unix.Rmdir(dir) // if it was the last one
		}
	}
	return errors.Join(errs...)
}

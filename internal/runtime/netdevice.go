package runtime

import (
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// netDevice is a network device that was moved to the container, and what it
// needs to become again what it was.
type netDevice struct {
	name       string // before, as was and up
	was, index uint32 // index before and now
	up         bool
	addresses  []netAddress
}

// netAddress is an address of a device's as it is made: a struct ifaddrmsg, and
// the attributes after it.
type netAddress struct{ header, attributes []byte }

// Places in a struct ifaddrmsg.
const addrFlags, addrScope, addrIndex = 2, 3, 4

// moveDevices moves linux.netDevices into the container's network namespace:
// runtime-spec, config-linux.md, "Network Devices".
func (c *creation) moveDevices() error {
	if len(c.spec.Linux.NetDevices) == 0 {
		return nil
	}
	fail := func(name string, err error) error {
		return cove.E("move network device", name, kindOf(err), err)
	}
	theirs, err := openOf(c.child.pid, "net")
	if err != nil {
		return fail("", err)
	}
	defer unix.Close(theirs)
	home, err := routing()
	if err != nil {
		return fail("", err)
	}
	defer unix.Close(home)
	if c.network, err = routingIn(theirs); err != nil {
		return fail("", err)
	}
	for _, name := range slices.Sorted(maps.Keys(c.spec.Linux.NetDevices)) {
		field := "linux.netDevices: " + name
		d, err := findDevice(home, name)
		if err != nil {
			return fail(field, err)
		}
		as := c.spec.Linux.NetDevices[name].Name
		if as == "" {
			as = name
		}
		err = d.move(home, theirs, as)
		moved := err == nil
		if err != nil && !errors.Is(err, unix.ENODEV) {
			// The kernel may refuse the name when the device is there already.
			_, look := findDevice(home, name)
			moved = errors.Is(look, unix.ENODEV)
		}
		if moved {
			c.devices = append(c.devices, d)
		}
		if err == nil {
			err = d.address(c.network, false)
		}
		if err == nil {
			err = d.start(c.network)
		}
		if err != nil {
			return fail(field, err)
		}
	}
	return nil
}

// returnDevices undoes it: most kinds of devices would end with the namespace.
func (c *creation) returnDevices() error {
	if c.network < 0 {
		return nil
	}
	defer unix.Close(c.network)
	var errs []error
	for _, d := range slices.Backward(c.devices) {
		if err := d.comeBack(c.network); err != nil {
			errs = append(errs, cove.E("move network device back", d.name, kindOf(err), err))
		}
	}
	return errors.Join(errs...)
}

func (d *netDevice) comeBack(from int) error {
	ours, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(ours)
	home, err := routing()
	if err != nil {
		return err
	}
	defer unix.Close(home)
	if err := d.move(from, ours, d.name); err != nil {
		return err
	}
	if err := d.address(home, true); err != nil || !d.up {
		return err
	}
	return d.start(home)
}

// findDevice finds a device in the socket's namespace, which is this thread's,
// with its permanent addresses.
func findDevice(socket int, name string) (*netDevice, error) {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, err
	}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFFLAGS, r); err != nil {
		return nil, err
	}
	d := &netDevice{name: name, up: r.Uint16()&unix.IFF_UP != 0}
	if err := unix.IoctlIfreq(socket, unix.SIOCGIFINDEX, r); err != nil {
		return nil, err
	}
	d.was = r.Uint32()
	d.index = d.was
	all, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return nil, err
	}
	messages, err := syscall.ParseNetlinkMessage(all)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg || binary.NativeEndian.Uint32(m.Data[addrIndex:]) != d.index {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(&m)
		if err != nil {
			return nil, err
		}
		if a, ok := permanent(m.Data, attributes); ok {
			d.addresses = append(d.addresses, a)
		}
	}
	return d, nil
}

// permanent is what an address is to be made of again. It is not ok for one that
// has an end.
func permanent(header []byte, attributes []syscall.NetlinkRouteAttr) (a netAddress, ok bool) {
	a.header = slices.Clone(header[:unix.SizeofIfAddrmsg])
	a.header[addrFlags] = 0 // of which there are more in the attribute
	for _, at := range attributes {
		switch at.Attr.Type {
		case unix.IFA_FLAGS:
			flags := binary.NativeEndian.Uint32(at.Value)
			ok = flags&unix.IFA_F_PERMANENT != 0
			const settable = unix.IFA_F_NODAD | unix.IFA_F_HOMEADDRESS | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MCAUTOJOIN
			a.attributes = appendNumber(a.attributes, unix.IFA_FLAGS, flags&settable)
		case unix.IFA_ADDRESS, unix.IFA_LOCAL, unix.IFA_BROADCAST, unix.IFA_RT_PRIORITY:
			a.attributes = appendAttribute(a.attributes, at.Attr.Type, at.Value)
		}
	}
	return a, ok
}

// move moves the device from the socket's namespace to another, under a name.
// Its index is the one that it had before, unless another device has that there.
func (d *netDevice) move(from, to int, name string) error {
	const tries = 1000
	device := ifinfo(d.index, 0)
	d.index = d.was
	for last := d.was + tries; ; d.index++ {
		attributes := appendAttribute(nil, unix.IFLA_IFNAME, append([]byte(name), 0))
		attributes = appendNumber(attributes, unix.IFLA_NET_NS_FD, uint32(to))
		attributes = appendNumber(attributes, unix.IFLA_NEW_IFINDEX, d.index)
		err := request(from, unix.RTM_NEWLINK, 0, device, attributes)
		if err != unix.EBUSY || d.index == last {
			return err
		}
	}
}

// address gives the device its addresses, which moving has taken away: those of
// global scope, or all of them.
func (d *netDevice) address(socket int, all bool) error {
	for _, a := range d.addresses {
		if !all && a.header[addrScope] != unix.RT_SCOPE_UNIVERSE {
			continue
		}
		binary.NativeEndian.PutUint32(a.header[addrIndex:], d.index)
		if err := request(socket, unix.RTM_NEWADDR, unix.NLM_F_CREATE|unix.NLM_F_EXCL, a.header, a.attributes); err != nil {
			return err
		}
	}
	return nil
}

// start sets the device up.
func (d *netDevice) start(socket int) error {
	return request(socket, unix.RTM_NEWLINK, 0, ifinfo(d.index, unix.IFF_UP), nil)
}

package network

import (
	"encoding/hex"
	"errors"
	"net"
	"strconv"
	"strings"

	"github.com/cove-engine/cove"
)

// Validate checks a request before anything is made.
func (r *Request) Validate() error {
	const op = "connect container"
	object := r.ContainerID
	if len(object) > cove.ShortIDLength {
		object = object[:cove.ShortIDLength]
	}
	fail := func(text string) error { return cove.E(op, object, cove.Invalid, errors.New(text)) }
	if _, err := hex.DecodeString(r.ContainerID); err != nil || len(r.ContainerID) != cove.IDLength || strings.ToLower(r.ContainerID) != r.ContainerID {
		return fail("malformed container ID")
	}
	if len(r.Networks) > MaxNetworks {
		return fail(strconv.Itoa(len(r.Networks)) + " networks, at most " + strconv.Itoa(MaxNetworks))
	}
	used := map[string]bool{"lo": true}
	links := map[int]bool{}
	for i := range r.Networks {
		m := &r.Networks[i]
		name := m.Network.Name
		if err := ValidInterface(m.Network.NetworkInterface); err != nil {
			return fail("network " + name + ": " + err.Error())
		}
		if err := ValidInterface(m.Attachment.Interface); err != nil {
			return fail("network " + name + ": " + err.Error())
		}
		if used[m.Attachment.Interface] {
			return fail("network " + name + ": interface " + m.Attachment.Interface + " is used twice")
		}
		used[m.Attachment.Interface] = true
		if l := m.Attachment.Link; l < 0 || l >= MaxNetworks || links[l] {
			return fail("network " + name + ": bad link number " + strconv.Itoa(l))
		}
		links[m.Attachment.Link] = true
		if m.Attachment.MAC != "" {
			if mac, err := net.ParseMAC(m.Attachment.MAC); err != nil || len(mac) != 6 || mac[0]&1 != 0 {
				return fail("network " + name + ": bad MAC address " + strconv.Quote(m.Attachment.MAC))
			}
		}
		for _, a := range m.Attachment.Addresses {
			if !a.IsValid() || a.Addr().Is4In6() || a.Addr().Zone() != "" {
				return fail("network " + name + ": bad address " + a.String())
			}
		}
		for _, g := range m.Attachment.Gateways {
			if !g.IsValid() || g.Is4In6() || g.Zone() != "" {
				return fail("network " + name + ": bad gateway " + g.String())
			}
		}
		for _, s := range m.Network.Subnets {
			if !s.Subnet.IsValid() || s.Subnet.Addr().Is4In6() || s.Gateway.IsValid() && !s.Subnet.Contains(s.Gateway) {
				return fail("network " + name + ": bad subnet " + s.Subnet.String())
			}
		}
		for _, route := range m.Network.Routes {
			if !route.Destination.IsValid() || !route.Gateway.IsValid() || route.Destination.Addr().Is4() != route.Gateway.Is4() {
				return fail("network " + name + ": bad route " + route.Destination.String())
			}
		}
	}
	for _, p := range r.Ports {
		if _, _, err := Binding(p); err != nil {
			return err
		}
		if p.HostPort == 0 {
			return cove.E(publishOp, portName(p), cove.Invalid, errors.New("no host port chosen"))
		}
	}
	return nil
}

// ValidInterface checks the name of a link as the kernel does.
func ValidInterface(name string) error {
	bad := name == "" || len(name) > 15 || name == "." || name == ".."
	for _, c := range []byte(name) {
		bad = bad || c <= ' ' || c >= 127 || c == '/' || c == ':' || c == '%'
	}
	if bad {
		return errors.New("bad interface name " + strconv.Quote(name))
	}
	return nil
}

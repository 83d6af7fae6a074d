package native

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
	"github.com/cove-engine/cove/internal/network"
	"github.com/cove-engine/cove/internal/network/teardown"
)

var errNoNAT = errors.New("this kernel has no nftables NAT, which published ports need")

// firewall is a netfilter socket with what has been found out through it.
type firewall struct {
	socket
	docker dockerChains
}

func openFirewall() (*firewall, error) {
	s, err := open(unix.NETLINK_NETFILTER)
	if err != nil {
		return nil, err
	}
	return &firewall{socket: s}, nil
}

// missing reports whether an error on the first contact says that this kernel
// has no nf_tables at all: EINVAL is nfnetlink's answer for a subsystem that it
// does not know.
func missing(err error) bool { return errors.Is(err, unix.EINVAL) || absent(err) }

// absent reports whether an error says that this kernel lacks the part of
// nf_tables that was asked for.
func absent(err error) bool {
	for _, e := range []unix.Errno{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT, unix.ENOSYS} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refused is a batch that the kernel did not commit.
type refused struct{ failures []teardown.Failure }

func (r *refused) Error() string { return "firewall: " + r.failures[0].Errno.Error() }
func (r *refused) Unwrap() error { return r.failures[0].Errno }

func (f *firewall) commit(b *batch) ([]byte, error) {
	text := b.bytes()
	failures, err := teardown.Commit(f.fd, text)
	if err == nil && len(failures) > 0 {
		err = &refused{failures}
	}
	return text, err
}

// admit makes the container's networks' rules as far as they are missing and
// publishes its ports, and gives what takes the ports back. Afresh are the rules
// made as if they were missing.
func admit(r *network.Request, afresh bool) (teardown.Teardown, error) {
	var none teardown.Teardown
	ports, err := publications(r)
	if err != nil {
		return none, err
	}
	f, err := openFirewall()
	if err != nil {
		if missing(err) {
			return none, without(len(ports) > 0, r)
		}
		return none, err
	}
	defer f.shut()
	known, err := f.probe(r)
	if err != nil {
		if missing(err) {
			return none, without(len(ports) > 0, r)
		}
		return none, err
	}
	if afresh {
		clear(known)
	}
	nat, err := f.admit(r, known, ports)
	if err != nil {
		return none, err
	}
	if len(ports) == 0 {
		return none, nil
	}
	if !nat {
		return none, cove.E("publish ports", "", cove.Unsupported, errNoNAT)
	}
	f.forgetFlows(r)
	back := newBatch()
	for _, p := range ports {
		back.remove(p.set, p.key)
	}
	return teardown.Teardown{Nft: [][]byte{back.bytes()}}, nil
}

// without says what a host without firewall means for a request: nothing,
// unless something was asked that only a firewall can do. What nothing guards
// is closed: the way from bridges to the host's own loopback.
func without(ports bool, r *network.Request) error {
	if ports {
		return cove.E("publish ports", "", cove.Unsupported, errNoNAT)
	}
	for i := range r.Networks {
		if err := routeLocalnet(&r.Networks[i].Network, "0"); err != nil {
			return err
		}
		if network.IsolateOf(r.Networks[i].Network) != network.IsolateNo {
			return cove.E("isolate network", r.Networks[i].Network.Name, cove.Unsupported,
				errors.New("this kernel has no nftables, which the option isolate needs"))
		}
	}
	return nil
}

// admit commits what is missing, and reports whether the host can translate
// addresses.
func (f *firewall) admit(r *network.Request, known map[string]string, ports []element) (bool, error) {
	// A network known to have got by without NAT is tried again only for
	// ports: what a kernel lacks seldom comes.
	var lacking []*cove.Network
	nat := true
	for i := range r.Networks {
		n := &r.Networks[i].Network
		switch known[n.NetworkInterface] {
		case fingerprint(n, true, f.docker):
		case fingerprint(n, false, f.docker):
			nat = false
		default:
			lacking = append(lacking, n)
		}
	}
	all := func() {
		lacking = nil
		for i := range r.Networks {
			lacking = append(lacking, &r.Networks[i].Network)
		}
	}
	if !nat && len(ports) > 0 {
		nat = true
		all()
	}
	stale := map[string]bool{}
	for attempt := 0; ; attempt++ {
		b := newBatch()
		if len(lacking) > 0 {
			if err := f.networks(b, lacking, nat); err != nil {
				return nat, err
			}
		}
		first := b.seq + 1
		if nat {
			for _, p := range ports {
				if stale[p.set+string(p.key)] {
					b.remove(p.set, p.key)
				}
			}
			first = b.seq + 1
			for _, p := range ports {
				b.add(p)
			}
		}
		if b.empty() {
			return nat, nil
		}
		_, err := f.commit(b)
		if err == nil {
			return nat, nil
		}
		if attempt == 3 {
			return nat, err
		}
		var no *refused
		if !errors.As(err, &no) {
			return nat, err
		}
		switch {
		case no.failures[0].Seq >= first && (errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EEXIST)):
			// Another container's element on a port whose socket the caller
			// holds: its owner is gone. Or its own, to another address.
			for _, x := range no.failures {
				if x.Seq >= first && int(x.Seq-first) < len(ports) {
					p := ports[x.Seq-first]
					stale[p.set+string(p.key)] = true
				}
			}
		case errors.Is(err, unix.ENOENT) && len(lacking) == 0:
			all() // the table went away after the look
		case absent(err) && nat && len(lacking) > 0:
			nat = false
		case absent(err) && !nat:
			return false, without(len(ports) > 0, r)
		default:
			return nat, err
		}
	}
}

// networks adds the table and the rules of networks.
func (f *firewall) networks(b *batch, ns []*cove.Network, nat bool) error {
	b.base(nat)
	for _, n := range ns {
		b.network(n, fingerprint(n, nat, f.docker), nat)
		if err := f.besideDocker(b, n.NetworkInterface, true); err != nil {
			return err
		}
	}
	return nil
}

// probe asks, in one send, which networks' rules are there (their
// fingerprints by bridge) and whether docker's chains are.
func (f *firewall) probe(r *network.Request) (map[string]string, error) {
	var m message
	f.askDocker(&m)
	for i := range r.Networks {
		m.elem(unix.NFT_MSG_GETSETELEM, 0, element{set: mapFrom, key: ifname(r.Networks[i].Network.NetworkInterface)})
	}
	if err := unix.Sendto(f.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return nil, os.NewSyscallError("netlink send", err)
	}
	known := make(map[string]string, len(r.Networks))
	var fail error
	for left := int(m.seq); left > 0; {
		err := f.receive(func(typ uint16, seq uint32, body []byte) {
			left--
			switch {
			case typ == unix.NLMSG_ERROR && len(body) >= 4:
				e := unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
				if e != unix.ENOENT && e != 0 {
					fail = e
				}
			case typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWCHAIN:
				f.docker.found(seq)
			case typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM:
				elements(body, func(e element) { known[cstring(e.key)] = e.comment })
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return known, fail
}

// elements calls f for each element in an answer.
func elements(body []byte, f func(element)) {
	if len(body) < sizeofNfgenmsg {
		return
	}
	var set string
	attributes(body[sizeofNfgenmsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_LIST_SET:
			set = cstring(data)
		case unix.NFTA_SET_ELEM_LIST_ELEMENTS:
			attributes(data, func(_ uint16, data []byte) {
				e := element{set: set}
				attributes(data, func(typ uint16, data []byte) {
					switch typ {
					case unix.NFTA_SET_ELEM_KEY:
						e.key = valueIn(data)
					case unix.NFTA_SET_ELEM_DATA:
						e.data = valueIn(data)
					case unix.NFTA_SET_ELEM_USERDATA:
						e.comment = commentIn(data)
					}
				})
				f(e)
			})
		}
	})
}

// valueIn copies the value in an element's key or data; nil for a verdict.
func valueIn(b []byte) (v []byte) {
	attributes(b, func(typ uint16, data []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			v = append([]byte(nil), data...)
		}
	})
	return v
}

// listSet calls fn for each element of a set; one that is not there, or a
// kernel without nf_tables, has none.
func (f *firewall) listSet(name string, fn func(element)) error {
	var m message
	m.nft(unix.NFT_MSG_GETSETELEM, unix.NLM_F_DUMP, unix.NFPROTO_INET)
	m.str(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	m.str(unix.NFTA_SET_ELEM_LIST_SET, name)
	m.end()
	err := f.dump(&m, func(typ uint16, body []byte) {
		if typ == unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWSETELEM {
			elements(body, fn)
		}
	})
	if err != nil && !missing(err) {
		return os.NewSyscallError("list firewall set "+name, err)
	}
	return nil
}

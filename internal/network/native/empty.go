package native

import (
	"context"
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/cove-engine/cove"
)

// RemoveEmpty implements [network.Driver]: it deletes the firewall's table when
// there are no elements in it. A start that makes some at the same moment is before
// it, and then the kernel's ruleset is of another generation than the one that was
// looked at, or after it, and then it makes the table, too.
func (d Driver) RemoveEmpty(context.Context) error {
	const op = "remove firewall table"
	f, err := openFirewall()
	if missing(err) {
		return nil
	}
	if err == nil {
		defer f.shut()
		err = unix.ERESTART
	}
	for try := 0; errors.Is(err, unix.ERESTART) && try < dumpTries; try++ {
		err = f.removeEmpty()
	}
	if err != nil && !missing(err) {
		return cove.E(op, tableName, kindOf(err), err)
	}
	return nil
}

// removeEmpty looks and deletes once; ERESTART when somebody has changed rules
// meanwhile.
func (f *firewall) removeEmpty() error {
	generation, err := f.generation()
	if err != nil {
		return err
	}
	empty := true
	for _, set := range append([]string{setBridges, setIsolated, setStrict, setOpen4, setOpen6, mapFrom, mapTo, mapNAT, mapHairpin}, portMaps...) {
		if err := f.listSet(set, func(element) { empty = false }); err != nil {
			return err
		}
	}
	if !empty {
		return nil
	}
	return f.dropTable(generation)
}

// dropTable deletes the table if the ruleset is still of that generation.
func (f *firewall) dropTable(generation uint32) error {
	b := newBatchAt(generation)
	b.table(unix.NFT_MSG_DELTABLE)
	_, err := f.commit(b)
	return err
}

// generation is the number of the ruleset as it is now.
func (f *firewall) generation() (n uint32, err error) {
	var m message
	m.nft(unix.NFT_MSG_GETGEN, 0, unix.AF_UNSPEC)
	m.end()
	if err := unix.Sendto(f.fd, m.b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return 0, err
	}
	err = f.receive(func(typ uint16, _ uint32, body []byte) {
		switch {
		case typ == unix.NLMSG_ERROR && len(body) >= 4:
			err = unix.Errno(-int32(binary.NativeEndian.Uint32(body)))
		case len(body) >= sizeofNfgenmsg:
			attributes(body[sizeofNfgenmsg:], func(typ uint16, data []byte) {
				if typ == unix.NFTA_GEN_ID && len(data) == 4 {
					n = binary.BigEndian.Uint32(data)
				}
			})
		}
	})
	return n, err
}

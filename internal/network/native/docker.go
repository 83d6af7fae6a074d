package native

import (
	"encoding/binary"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// docker sets the policy of iptables' FORWARD chain to drop, and an accept in
// another table cannot overrule that. What docker reserves for others is its
// chain DOCKER-USER, which it never empties: the bridges are accepted there,
// in the form that iptables-nft itself writes. (With iptables-legacy the chain
// is not visible here; the administrator has to accept the bridges.)

const (
	dockerTable = "filter"
	dockerChain = "DOCKER-USER"
)

// dockerChains says in which families docker's chain exists.
type dockerChains struct {
	V4, V6 bool
}

// askDocker asks for the chains; found takes the number of the message that
// was answered.
func (f *firewall) askDocker(m *message) {
	for _, family := range []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6} {
		m.nft(unix.NFT_MSG_GETCHAIN, 0, family)
		m.str(unix.NFTA_CHAIN_TABLE, dockerTable)
		m.str(unix.NFTA_CHAIN_NAME, dockerChain)
		m.end()
	}
}

func (d *dockerChains) found(seq uint32) {
	switch seq {
	case 1:
		d.V4 = true
	case 2:
		d.V6 = true
	}
}

func (d dockerChains) families() (fs []byte) {
	if d.V4 {
		fs = append(fs, unix.NFPROTO_IPV4)
	}
	if d.V6 {
		fs = append(fs, unix.NFPROTO_IPV6)
	}
	return fs
}

// besideDocker accepts a bridge's traffic in docker's chain, or (want false)
// takes the rules back.
func (f *firewall) besideDocker(b *batch, bridge string, want bool) error {
	comment := tableName + " " + bridge
	for _, family := range f.docker.families() {
		handles, err := f.dockerRules(family, comment)
		if err != nil {
			return err
		}
		for _, h := range handles {
			b.nft(unix.NFT_MSG_DELRULE, 0, family)
			b.str(unix.NFTA_RULE_TABLE, dockerTable)
			b.str(unix.NFTA_RULE_CHAIN, dockerChain)
			b.attr(unix.NFTA_RULE_HANDLE, h)
			b.end()
		}
		if !want {
			continue
		}
		// iptables compares names without padding: "-i name".
		for _, key := range []uint32{unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME} {
			b.ruleIn(family, dockerTable, dockerChain, unix.NLM_F_CREATE, comment, []expr{
				meta(key, unix.NFT_REG_1), cmp(cmpEq, append([]byte(bridge), 0)), counter, verdict(verdictAccept)})
		}
	}
	return nil
}

// dockerRules finds the rules with a comment in docker's chain.
func (f *firewall) dockerRules(family byte, comment string) (handles [][]byte, err error) {
	var m message
	m.nft(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, family)
	m.str(unix.NFTA_RULE_TABLE, dockerTable)
	m.str(unix.NFTA_RULE_CHAIN, dockerChain)
	m.end()
	err = f.dump(&m, func(_ uint16, body []byte) {
		if len(body) < sizeofNfgenmsg {
			return
		}
		var handle []byte
		attributes(body[sizeofNfgenmsg:], func(typ uint16, data []byte) {
			switch typ {
			case unix.NFTA_RULE_HANDLE:
				handle = binary.BigEndian.AppendUint64(nil, binary.BigEndian.Uint64(data))
			case unix.NFTA_RULE_USERDATA:
				if commentIn(data) == comment && handle != nil {
					handles = append(handles, handle)
				}
			}
		})
	})
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, os.NewSyscallError("list rules of "+dockerChain, err)
	}
	return handles, nil
}

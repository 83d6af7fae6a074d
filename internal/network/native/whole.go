package native

import (
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

const newRule = unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE

// chainOf is where the rule in a message's body is.
func chainOf(body []byte) (table, chain string) {
	if len(body) < sizeofNfgenmsg {
		return "", ""
	}
	attributes(body[sizeofNfgenmsg:], func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_RULE_TABLE:
			table = cstring(data)
		case unix.NFTA_RULE_CHAIN:
			chain = cstring(data)
		}
	})
	return table, chain
}

// rules counts the rules of cove's table by chain.
func (f *firewall) rules() (map[string]int, error) {
	var m message
	m.nft(unix.NFT_MSG_GETRULE, unix.NLM_F_DUMP, unix.NFPROTO_INET)
	m.str(unix.NFTA_RULE_TABLE, tableName)
	m.end()
	n := map[string]int{}
	err := f.dump(&m, func(typ uint16, body []byte) {
		if table, chain := chainOf(body); typ == newRule && table == tableName {
			n[chain]++
		}
	})
	if err != nil && !missing(err) {
		return nil, os.NewSyscallError("list firewall rules", err)
	}
	return n, nil
}

// whole gives a function that tells whether the rules of a bridge are all there,
// those that the networks share among them: others' tools empty chains and sets, and
// leave what admit goes by.
func (f *firewall) whole() (func(bridge string) bool, error) {
	there, err := f.rules()
	if err != nil {
		return nil, err
	}
	in := map[string][]string{} // bridges by set
	for _, set := range []string{setBridges, mapTo, mapNAT, mapHairpin} {
		if err := f.listSet(set, func(e element) { in[set] = append(in[set], cstring(e.key)) }); err != nil {
			return nil, err
		}
	}
	nat := len(in[mapNAT])+there[chainPublish]+there[chainSNAT] > 0
	b := newBatch()
	b.base(nat)
	shared, want := true, map[string]int{}
	messages(b.b, func(typ, _ uint16, _ uint32, body []byte) {
		if _, chain := chainOf(body); typ == newRule {
			want[chain]++
		}
	})
	for chain, n := range want {
		shared = shared && there[chain] == n
	}
	return func(bridge string) bool {
		has := func(set string) bool { return slices.Contains(in[set], bridge) }
		inner := has(mapTo) // an internal network's
		outer := has(mapNAT) && has(mapHairpin) && there[chainNAT(bridge)] > 0 && there[chainHairpin(bridge)] > 0
		return shared && has(setBridges) && there[chainFrom(bridge)] > 0 && (inner || outer || !nat)
	}, nil
}

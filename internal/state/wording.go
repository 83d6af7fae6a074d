package state

import (
	"fmt"
	"strings"

	"github.com/cove-engine/cove"
)

// The texts below are podman's where scripts match them.

// maxCandidates is how many IDs an ambiguity error lists.
const maxCandidates = 8

// one is the singular of a bucket's name.
func one(b Bucket) string { return strings.TrimSuffix(string(b), "s") }

// clip shortens user input for a one-line message.
func clip(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}

func notFound(b Bucket, nameOrID string) error {
	nameOrID = clip(nameOrID)
	var cause error
	switch b {
	case Volumes:
		cause = fmt.Errorf("no volume with name %q found: no such volume", nameOrID)
	case Networks:
		cause = fmt.Errorf("unable to find network with name or ID %s: network not found", nameOrID)
	case Secrets:
		cause = fmt.Errorf("no secret with name or id %q: no such secret", nameOrID)
	default:
		cause = fmt.Errorf("no %s with name or ID %q found: no such %s", one(b), nameOrID, one(b))
	}
	return cove.E("", "", cove.NotFound, cause)
}

func ambiguous(b Bucket, prefix string, found []string, more bool) error {
	list := strings.Join(found, ", ")
	if more {
		list += ", …"
	}
	return cove.E("", "", cove.Invalid, fmt.Errorf("more than one result for %s name or ID %q: %s", one(b), clip(prefix), list))
}

func nameTaken(holder Bucket, name, id string) error {
	var cause error
	switch holder {
	case Volumes:
		cause = fmt.Errorf("volume with name %s already exists: volume already exists", name)
	case Networks:
		cause = fmt.Errorf("network name %s already used by %s: network already exists", name, id)
	case Secrets:
		cause = fmt.Errorf("%s: secret name in use by %s", name, id)
	default:
		cause = fmt.Errorf("the %s name %q is already in use by %s. You have to remove that %s to be able to reuse that name: that name is already in use, or use --replace to instruct cove to do so",
			one(holder), name, id, one(holder))
	}
	return cove.E("", "", cove.Exists, cause)
}

// wayOn tells what to do about a damaged record.
func wayOn(b Bucket, id string) string {
	kind := ""
	switch b {
	case Volumes:
		return fmt.Sprintf(`"cove system check --repair" makes it anew, "cove volume rm -f %s" removes the volume`, id)
	case Networks:
		kind = "network "
	}
	return fmt.Sprintf(`"cove system check --repair" puts it aside, "cove %srm -f %s" removes it`, kind, id[:min(cove.ShortIDLength, len(id))])
}

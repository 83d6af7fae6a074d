package cli

// networkCommands is `cove network`.
func networkCommands() []entry {
	return []entry{group("network", "Manage networks", func() []entry {
		return append([]entry{
			{name: "connect", short: "Add container to a network", build: networkConnectCommand},
			{name: "create", short: "Create networks for containers and pods", build: networkCreateCommand},
			{name: "disconnect", short: "Remove container from a network", build: networkDisconnectCommand},
			{name: "exists", short: "Check if network exists", build: networkExistsCommand},
			{name: "inspect", short: "Inspect network", build: networkInspectCommand},
			{name: "ls", aliases: []string{"list"}, short: "List networks", build: networkListCommand},
			{name: "prune", short: "Prune unused networks", build: networkPruneCommand},
			{name: "reload", short: "Reload firewall rules for one or more containers", build: networkReloadCommand},
			{name: "rm", aliases: []string{"remove"}, short: "Remove networks", build: networkRemoveCommand},
		}, notYet("update")...)
	})}
}

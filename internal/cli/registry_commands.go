package cli

// registryCommands are login and logout.
func registryCommands() []entry {
	return []entry{
		{name: "login", short: "Log in to a container registry", build: loginCommand},
		{name: "logout", short: "Log out of a container registry", build: logoutCommand},
	}
}

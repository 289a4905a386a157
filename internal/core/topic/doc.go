// Package topic decides which subscriptions of a topic a published message is for: by tags, or by a routing key against
// binding keys, as http-api.md 4.1 has it. It is pure and holds nothing but what a subscription asks for; where messages
// then go is decided in broker, its caller.
package topic

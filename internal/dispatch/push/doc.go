// Package push delivers what was published to the endpoints of subscriptions.
package push

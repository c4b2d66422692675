# The proxies that Ruby finds for URIs: find_proxy.rb URI...
require "json"
require "uri"

puts JSON.generate(ARGV.map { |each| URI(each).find_proxy&.to_s })

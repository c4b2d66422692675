# Makes Ruby's Net::HTTP find the proxy in https_proxy for the hosts that the sidecar speaks for, and for no other.
#
# Net::HTTP reads http_proxy alone, whatever the scheme (it asks an http: URI for its proxy). To set that would lead
# all programs' calls in clear to all hosts through the sidecar. So only the URIs of Graph's hosts are answered here.
# Nothing is loaded: the class is opened before the program loads it, and the method stands before its own.
module URI
  class Generic
    prepend(Module.new do
      hosts = ::File.readlines(::File.join(__dir__, "hosts")).map(&:chomp)

      define_method(:find_proxy) do |*arguments|
        given = arguments[0] || ENV
        named = given["https_proxy"] || given["HTTPS_PROXY"]
        if named && !named.empty? && hosts.include?(hostname.to_s.downcase)
          URI.parse(named)
        else
          super(*arguments)
        end
      end
    end)
  end
end

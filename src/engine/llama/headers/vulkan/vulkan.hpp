// The system's <vulkan/vulkan.hpp> → the same, with what llama.cpp uses of VK_EXT_layer_settings where the headers are older than
// that extension (Debian 12, Ubuntu 22.04). llama.cpp only enables it for the validation layer; other drivers and loaders skip a
// structure that they do not know. Layouts and numbers: Vulkan specification, VkLayerSettingsCreateInfoEXT.
//
// .cargo/config.toml puts this folder before the system's.

#include_next <vulkan/vulkan.hpp>

#ifndef VK_EXT_layer_settings
#include <vector>

namespace vk {

enum class LayerSettingTypeEXT : uint32_t { eBool32 = 0 };

struct LayerSettingEXT {
    const char *        pLayerName;
    const char *        pSettingName;
    LayerSettingTypeEXT type;
    uint32_t            valueCount;
    const void *        pValues;
};

struct LayerSettingsCreateInfoEXT {
    StructureType           sType = static_cast<StructureType>(1000496000);
    const void *            pNext = nullptr;
    uint32_t                settingCount;
    const LayerSettingEXT * pSettings;

    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}
};

} // namespace vk
#endif

import tailwindcss from '@tailwindcss/vite'
import react from '@vitejs/plugin-react'
import { defineConfig } from 'vite'

export default defineConfig({
  plugins: [react(), tailwindcss()],
  build: {
    target: 'es2023',
    // The content security policy allows no inline data; every asset is a file.
    assetsInlineLimit: 0,
    // One file of 154 kB gzipped; console.test.ts holds the budget of 200 kB.
    chunkSizeWarningLimit: 700,
    modulePreload: { polyfill: false },
  },
})
